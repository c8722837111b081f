"""The printed networks, against a second writing of the document's text; the scaled one; the denoiser's file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import pixmend
from pixmend.checkpoint import Model, save_model
from pixmend.denoising.model_file import (
    KINDS,
    PHOTO_SHAPE,
    Denoiser,
    load_denoiser,
    read_denoiser_header,
    save_denoiser,
)
from pixmend.denoising.networks import PICTURE_DEVIATION, Doubling, ScaledUNet, UNetCIFAR, UNetDiffusionCIFAR
from pixmend.errors import FileMissingError, ModelFileError, OptionError
from pixmend.unet import UNetConfig

TINY = UNetConfig(in_channels=3, channels=(16, 16), attention=(False, False), time_channels=16)
Weights = dict[str, Tensor]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def conv(x: Tensor, w: Weights, name: str, padding: int = 0) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=padding)


def printed_block(x: Tensor, t_emb: Tensor, w: Weights, name: str) -> Tensor:
    h = conv(x, w, f"{name}.conv1", 1).relu()
    h = h + linear(t_emb, w, f"{name}.t_proj")[:, :, None, None]
    h = conv(h, w, f"{name}.conv2", 1).relu()
    return h + (conv(x, w, f"{name}.shortcut") if f"{name}.shortcut.weight" in w else x)


def printed_timed(x: Tensor, t: Tensor, w: Weights) -> Tensor:
    """The document's UNetDiffusionCIFAR, as functions of its state dict."""
    t_emb = linear(linear(t.view(-1, 1).float(), w, "time_mlp.0").relu(), w, "time_mlp.2")
    e1 = printed_block(x, t_emb, w, "enc1")
    e2 = printed_block(F.max_pool2d(e1, 2), t_emb, w, "enc2")
    b = printed_block(F.max_pool2d(e2, 2), t_emb, w, "bottleneck")
    d1 = F.conv_transpose2d(b, w["up1.weight"], w["up1.bias"], stride=2)
    d1 = printed_block(torch.cat([d1, e2], 1), t_emb, w, "dec1")
    d2 = F.conv_transpose2d(d1, w["up2.weight"], w["up2.bias"], stride=2)
    d2 = printed_block(torch.cat([d2, e1], 1), t_emb, w, "dec2")
    return conv(d2, w, "final")


def printed_blind(x: Tensor, w: Weights) -> Tensor:
    """The document's UNetCIFAR in evaluation, as functions of its state dict."""

    def block(x: Tensor, name: str) -> Tensor:
        for at in (0, 3):
            x = conv(x, w, f"{name}.{at}", 1)
            norm = f"{name}.{at + 1}"
            x = F.batch_norm(
                x, w[f"{norm}.running_mean"], w[f"{norm}.running_var"], w[f"{norm}.weight"], w[f"{norm}.bias"]
            ).relu()
        return x

    def double(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    e1 = block(x, "enc1")
    e2 = block(F.max_pool2d(e1, 2), "enc2")
    b = block(F.max_pool2d(e2, 2), "bottleneck")
    d1 = block(torch.cat([double(b), e2], 1), "dec1")
    return conv(block(torch.cat([double(d1), e1], 1), "dec2"), w, "final")


def test_parameter_counts() -> None:
    """2,176,515 as the document's network has; of the appendix's, counted by hand from its convolutions."""
    assert sum(p.numel() for p in UNetDiffusionCIFAR(t_dim=256).parameters()) == 2_176_515
    pairs = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (384, 128), (128, 128), (192, 64)]
    pairs += [(64, 64)]
    by_hand = sum(9 * i * o + o + 2 * o for i, o in pairs) + 64 * 3 + 3
    assert sum(p.numel() for p in UNetCIFAR().parameters()) == by_hand


def test_timed_network_is_the_printed_one() -> None:
    torch.manual_seed(0)
    network = UNetDiffusionCIFAR().eval()
    x, t = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 4, 7, 9])
    with torch.no_grad():
        torch.testing.assert_close(network(x, t), printed_timed(x, t, network.state_dict()), atol=1e-6, rtol=0)


def test_blind_network_is_the_printed_one() -> None:
    torch.manual_seed(0)
    network = UNetCIFAR()
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network(x)  # running statistics that are not those of a new network
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(x), printed_blind(x, network.state_dict()), atol=1e-6, rtol=0)
        assert torch.equal(network(x), network(x, torch.tensor([1, 4, 7, 9])))


def test_names_and_shapes_of_the_printed_state_dict() -> None:
    weights = {
        "time_mlp.0": (256, 1),
        "time_mlp.2": (256, 256),
        "up1": (256, 128, 2, 2),
        "up2": (128, 64, 2, 2),
        "final": (3, 64, 1, 1),
    }
    blocks = {"enc1": (64, 3), "enc2": (128, 64), "bottleneck": (256, 128), "dec1": (128, 256), "dec2": (64, 128)}
    for block, (out, into) in blocks.items():
        weights |= {
            f"{block}.conv1": (out, into, 3, 3),
            f"{block}.t_proj": (out, 256),
            f"{block}.conv2": (out, out, 3, 3),
            f"{block}.shortcut": (out, into, 1, 1),
        }
    biases = {
        name: (128,) if name == "up1" else (64,) if name == "up2" else shape[:1] for name, shape in weights.items()
    }
    expected = {f"{name}.weight": shape for name, shape in weights.items()}
    expected |= {f"{name}.bias": shape for name, shape in biases.items()}
    assert {name: tuple(value.shape) for name, value in UNetDiffusionCIFAR().state_dict().items()} == expected
    assert pixmend.UNetDiffusionCIFAR is UNetDiffusionCIFAR
    assert pixmend.UNetCIFAR is UNetCIFAR


def test_a_new_scaled_network_is_the_best_linear_guess() -> None:
    """Its U-Net starts at zero; then eps = sigma x / (s^2 + sigma^2), the best guess for Gaussian values."""
    network = ScaledUNet(TINY)
    x, t = torch.randn(3, 3, 9, 14), torch.tensor([1.0, 5.0, 10.0])
    sigma = (t / 10)[:, None, None, None]
    with torch.no_grad():
        torch.testing.assert_close(network(x, t), sigma * x / (PICTURE_DEVIATION**2 + sigma**2))


def test_the_scaled_network_is_shown_variance_one_and_answers_by_its_formula() -> None:
    """For pictures of deviation s = 1/2, at every level: what the inner network sees, and eps of what it answers."""

    class Inner(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.seen, self.time = x, t
            return answer

    generator = torch.Generator().manual_seed(0)
    x0, eps, answer = (torch.randn(4, 3, 256, 256, generator=generator, dtype=torch.float64) for _ in range(3))
    sigma = torch.tensor([0.01, 0.1, 0.5, 1.0])
    network, inner = ScaledUNet(TINY), Inner()
    network.unet = inner  # type: ignore[assignment]
    wide = sigma.double()[:, None, None, None]
    x = 0.5 * x0 + wide * eps
    out = network(x, 10 * sigma)
    assert inner.seen.flatten(1).std(1).tolist() == pytest.approx([1] * 4, rel=0.01)
    assert inner.time.tolist() == pytest.approx([0, 500, 849.485, 1000], abs=0.01)  # 1000 (1 + log10(sigma) / 2)
    torch.testing.assert_close(out, wide / (0.25 + wide**2) * x - 0.5 / (0.25 + wide**2).sqrt() * answer)


def test_the_shape_that_ships_fits_in_eight_mebibytes() -> None:
    network = Denoiser.new("scaled", shape=PHOTO_SHAPE).network
    assert 2 * sum(p.numel() for p in network.parameters()) < 7.9 * 2**20


@pytest.mark.parametrize("kind", KINDS)
def test_file_gives_the_denoiser_back(kind: str, tmp_path: Path) -> None:
    denoiser = Denoiser.new(kind, shape=TINY, T=12, seed=3)  # type: ignore[arg-type]
    denoiser.legs, denoiser.terms = [{"kimg": 1.5}], "for tests"
    denoiser.network(torch.randn(2, 3, 8, 8), torch.ones(2))  # moves the statistics of batch normalisation
    path = save_denoiser(tmp_path / "d.safetensors", denoiser)
    again = load_denoiser(path)
    assert again.header == denoiser.header
    assert read_denoiser_header(path) == json.loads(json.dumps(denoiser.header))
    before, after = denoiser.network.state_dict(), again.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not again.network.training


def test_what_would_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    denoiser = Denoiser.new("blind")
    denoiser.network.final.bias.data.fill_(1e5)  # type: ignore[union-attr, operator]
    with pytest.raises(OptionError, match=r"final\.bias is not finite in torch\.float16"):
        save_denoiser(tmp_path / "d.safetensors", denoiser, dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []
    save_denoiser(tmp_path / "d.safetensors", denoiser)


def test_half_precision_keeps_whole_numbers(tmp_path: Path) -> None:
    path = save_denoiser(tmp_path / "d.safetensors", Denoiser.new("blind"), dtype=torch.float16)
    kinds = {value.dtype for value in load_file(path).values()}
    assert kinds == {torch.float16, torch.int64}
    load_denoiser(path)


def test_wrong_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        load_denoiser(tmp_path / "nowhere.safetensors")
    path = tmp_path / "m.safetensors"
    save_model(path, Model.new(UNetConfig(channels=(16,), attention=(False,), time_channels=16)))
    with pytest.raises(ModelFileError, match="fills holes"):
        load_denoiser(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelFileError, match="of another program; give one that `pixmend denoise train` wrote"):
        load_denoiser(path)
    good = Denoiser.new("scaled", shape=TINY)
    for change in (
        {"T": 1},
        {"T": 10**9},
        {"levels": [0.5, 0.1]},
        {"network": "large"},
        {"architecture": {"patch": 2}},
        {"size": 0},
    ):
        save_file(good.network.state_dict(), path, {"pixmend": json.dumps({**good.header, **change})})
        with pytest.raises(ModelFileError):
            load_denoiser(path)
    save_file(good.network.state_dict(), path, {"pixmend": json.dumps({**good.header, "version": 2})})
    with pytest.raises(ModelFileError, match="update pixmend"):
        load_denoiser(path)
    weights = {name: torch.full_like(value, float("nan")) for name, value in good.network.state_dict().items()}
    save_file(weights, path, {"pixmend": json.dumps(good.header)})
    with pytest.raises(ModelFileError, match="not finite"):
        load_denoiser(path)
    path.write_bytes(struct.pack("<Q", 2**40) + b"x" * 100)
    with pytest.raises(ModelFileError):
        load_denoiser(path)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(OptionError, match="timed, blind, scaled"):
        Denoiser.new("large")  # type: ignore[arg-type]


def test_doubling_is_the_transposed_convolution() -> None:
    ours = Doubling(8, 6)
    theirs = torch.nn.ConvTranspose2d(8, 6, 2, stride=2)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 8, 5, 7).contiguous(memory_format=torch.channels_last)
    answers, gradients = [], []
    for layer in (ours, theirs):
        given = x.clone().requires_grad_()
        answers.append(layer(given))
        gradients.append(torch.autograd.grad(answers[-1].square().sum(), [given, *layer.parameters()]))
    torch.testing.assert_close(answers[0], answers[1])
    for ours_, theirs_ in zip(*gradients, strict=True):
        torch.testing.assert_close(ours_, theirs_)
