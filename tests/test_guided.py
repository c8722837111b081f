"""Checkpoints of guided-diffusion, against a forward pass restated from its documented structure.

The restatement works on a state_dict alone and shares nothing with pixmend: the names of the tensors say what each
module is, and the two facts that they do not say (where a residual block changes the size) follow from their numbers.
https://github.com/openai/guided-diffusion, Dhariwal and Nichol 2021, https://arxiv.org/abs/2105.05233.
"""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.adapters import import_model
from pixmend.adapters.guided import config_of, read_description
from pixmend.adm import AdmUNet
from pixmend.diffusion import Diffusion
from pixmend.errors import FileMissingError, ModelFileError, OptionError, PixmendError

Weights = dict[str, Tensor]
DOCS = Path(__file__).parents[1] / "docs" / "other-models.md"


class Checkpoint:
    """A made-up checkpoint: levels of `mult` times `width` channels, attention where `attends` says so."""

    def __init__(
        self, *, width: int, mult: tuple[float, ...], attends: tuple[bool, ...], blocks: int, heads: int, **flags: bool
    ) -> None:
        self.width, self.blocks, self.heads, self.flags = width, blocks, heads, flags
        self.weights: Weights = {}
        self.generator = torch.Generator().manual_seed(7)
        c, last = [int(m * width) for m in mult], len(mult) - 1
        self.layer("time_embed.0", 4 * width, width)
        self.layer("time_embed.2", 4 * width, 4 * width)
        if flags["class_cond"]:
            self.weights["label_emb.weight"] = self.random(5, 4 * width)
        self.layer("input_blocks.0.0", c[0], 3, 3, 3)
        skips, at, n = [c[0]], c[0], 1
        for level in range(len(c)):
            for _ in range(blocks):
                self.stage(f"input_blocks.{n}", at, c[level], attends[level])
                at, n = c[level], n + 1
                skips.append(at)
            if level < last:
                self.resample(f"input_blocks.{n}.0", at, "op")
                n += 1
                skips.append(at)
        self.block("middle_block.0", at, at)
        self.attention("middle_block.1", at)
        self.block("middle_block.2", at, at)
        n = 0
        for level in reversed(range(len(c))):
            for i in range(blocks + 1):
                self.stage(f"output_blocks.{n}", at + skips.pop(), c[level], attends[level])
                at = c[level]
                if level > 0 and i == blocks:
                    self.resample(f"output_blocks.{n}.{1 + attends[level]}", at, "conv")
                n += 1
        self.norm("out.0", at)
        self.layer("out.2", 6 if flags["learn_sigma"] else 3, at, 3, 3)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def layer(self, name: str, *shape: int) -> None:
        self.weights[f"{name}.weight"] = self.random(*shape) / math.sqrt(math.prod(shape[1:]))
        self.weights[f"{name}.bias"] = 0.1 * self.random(shape[0])

    def norm(self, name: str, channels: int) -> None:
        self.weights[f"{name}.weight"] = 1 + 0.2 * self.random(channels)
        self.weights[f"{name}.bias"] = 0.2 * self.random(channels)

    def block(self, name: str, ins: int, outs: int) -> None:
        self.norm(f"{name}.in_layers.0", ins)
        self.layer(f"{name}.in_layers.2", outs, ins, 3, 3)
        self.layer(f"{name}.emb_layers.1", 2 * outs if self.flags["use_scale_shift_norm"] else outs, 4 * self.width)
        self.norm(f"{name}.out_layers.0", outs)
        self.layer(f"{name}.out_layers.3", outs, outs, 3, 3)
        if ins != outs:
            self.layer(f"{name}.skip_connection", outs, ins, 1, 1)

    def attention(self, name: str, channels: int) -> None:
        self.norm(f"{name}.norm", channels)
        self.layer(f"{name}.qkv", 3 * channels, channels, 1)
        self.layer(f"{name}.proj_out", channels, channels, 1)

    def stage(self, name: str, ins: int, outs: int, attends: bool) -> None:
        self.block(f"{name}.0", ins, outs)
        if attends:
            self.attention(f"{name}.1", outs)

    def resample(self, name: str, channels: int, layer: str) -> None:
        if self.flags["resblock_updown"]:
            self.block(name, channels, channels)
        else:
            self.layer(f"{name}.{layer}", channels, channels, 3, 3)

    # The forward pass. `of` is the pair of arguments that a layer of torch takes.

    def of(self, name: str) -> tuple[Tensor, Tensor]:
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.weights)

    def __call__(self, x: Tensor, t: Tensor, label: int | None = None) -> Tensor:
        frequencies = torch.tensor([10_000 ** (-2 * i / self.width) for i in range(self.width // 2)])
        angles = t[:, None] * frequencies
        emb = F.linear(torch.cat([angles.cos(), angles.sin()], 1), *self.of("time_embed.0"))
        emb = F.linear(F.silu(emb), *self.of("time_embed.2"))
        if label is not None:
            emb = emb + self.weights["label_emb.weight"][label]
        h, hs = x, []
        for n in self.numbers("input_blocks"):
            h = self.sequence(f"input_blocks.{n}", h, emb, down=n > 0 and n % (self.blocks + 1) == 0)
            hs.append(h)
        h = self.sequence("middle_block", h, emb)
        for n in self.numbers("output_blocks"):
            h = self.sequence(f"output_blocks.{n}", torch.cat([h, hs.pop()], 1), emb)
        h = F.conv2d(F.silu(F.group_norm(h, 32, *self.of("out.0"))), *self.of("out.2"), padding=1)
        return h[:, :3]

    def numbers(self, name: str) -> Iterator[int]:
        return iter(range(next(n for n in count() if not self.has(f"{name}.{n}"))))

    def sequence(self, name: str, h: Tensor, emb: Tensor, down: bool = False) -> Tensor:
        for m in self.numbers(name):
            inner = f"{name}.{m}"
            if self.has(f"{inner}.in_layers"):
                h = self.residual(inner, h, emb, down=down, up=name.startswith("output") and m > 0)
            elif self.has(f"{inner}.qkv"):
                h = self.attend(inner, h)
            elif self.has(f"{inner}.op"):
                h = F.conv2d(h, *self.of(f"{inner}.op"), stride=2, padding=1)
            elif self.has(f"{inner}.conv"):
                h = F.conv2d(h.repeat_interleave(2, 2).repeat_interleave(2, 3), *self.of(f"{inner}.conv"), padding=1)
            else:
                h = F.conv2d(h, *self.of(inner), padding=1)
        return h

    def residual(self, name: str, x: Tensor, emb: Tensor, *, down: bool, up: bool) -> Tensor:
        def resampled(h: Tensor) -> Tensor:
            h = F.avg_pool2d(h, 2) if down else h
            return h.repeat_interleave(2, 2).repeat_interleave(2, 3) if up else h

        h = F.silu(F.group_norm(x, 32, *self.of(f"{name}.in_layers.0")))
        h = F.conv2d(resampled(h), *self.of(f"{name}.in_layers.2"), padding=1)
        told = F.linear(F.silu(emb), *self.of(f"{name}.emb_layers.1"))[:, :, None, None]
        if self.flags["use_scale_shift_norm"]:
            half = told.shape[1] // 2
            h = F.group_norm(h, 32, *self.of(f"{name}.out_layers.0")) * (1 + told[:, :half]) + told[:, half:]
        else:
            h = F.group_norm(h + told, 32, *self.of(f"{name}.out_layers.0"))
        h = F.conv2d(F.silu(h), *self.of(f"{name}.out_layers.3"), padding=1)
        x = resampled(x)
        if self.has(f"{name}.skip_connection"):
            x = F.conv2d(x, *self.of(f"{name}.skip_connection"))
        return x + h

    def attend(self, name: str, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        qkv = F.conv1d(F.group_norm(x, 32, *self.of(f"{name}.norm")).reshape(b, c, -1), *self.of(f"{name}.qkv"))
        size = c // self.heads
        found = []
        for head in range(self.heads):  # where the queries, keys and values of a head stand among the 3 c channels
            if self.flags["use_new_attention_order"]:
                starts = [part * c + head * size for part in range(3)]
            else:
                starts = [(3 * head + part) * size for part in range(3)]
            q, k, v = (qkv[:, start : start + size] for start in starts)
            weight = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(size), dim=-1)  # (B, to, from)
            found.append(v @ weight.transpose(1, 2))
        return x + F.conv1d(torch.cat(found, 1), *self.of(f"{name}.proj_out")).reshape(b, c, height, width)


FLAGS = ("resblock_updown", "use_scale_shift_norm", "use_new_attention_order", "learn_sigma", "class_cond")
CASES = [  # every flag on and off, with each other flag on and off
    (False, False, False, False, False),
    (True, True, False, True, False),
    (True, False, True, False, True),
    (False, True, True, True, True),
    (True, True, True, False, False),
    (False, True, False, False, True),
]


def made(case: tuple[bool, ...] = CASES[1], **more: Any) -> tuple[Checkpoint, dict[str, Any]]:
    """A checkpoint of two levels, 32 and 64 channels wide, and its description."""
    flags = dict(zip(FLAGS, case, strict=True))
    checkpoint = Checkpoint(width=64, mult=(0.5, 1), attends=(False, True), blocks=1, heads=2, **flags)
    described = {"image_size": 16, "num_channels": 64, "channel_mult": [0.5, 1], "attention_resolutions": "8"}
    return checkpoint, {**described, "num_res_blocks": 1, "num_heads": 2, **flags, **more}


def written(folder: Path, weights: object, description: object) -> tuple[Path, Path]:
    torch.save(weights, folder / "model.pt")
    (folder / "model.json").write_text(json.dumps(description))
    return folder / "model.pt", folder / "model.json"


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_gives_what_it_gave(case: tuple[bool, ...], tmp_path: Path) -> None:
    checkpoint, description = made(case)
    label = 3 if description["class_cond"] else None
    weights, architecture = written(tmp_path, checkpoint.weights, description)
    model = import_model(weights, architecture=architecture, label=label)
    x, t = torch.randn(2, 3, 16, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 977])
    with torch.inference_mode():
        expected = checkpoint(x, t, label)
        torch.testing.assert_close(model.network(x, t), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    assert (model.size, model.conditioning, model.diffusion.prediction) == (16, "plain", "eps")


def test_levels_and_blocks_are_counted_through(tmp_path: Path) -> None:
    """Three levels of two blocks, attention at the finest and the coarsest, four heads by their size."""
    flags = dict.fromkeys(FLAGS, False) | {"resblock_updown": True}
    checkpoint = Checkpoint(width=32, mult=(1, 1, 2), attends=(True, False, True), blocks=2, heads=1, **flags)
    description = {"image_size": 16, "num_channels": 32, "channel_mult": "1,1,2", "attention_resolutions": [16, 4]}
    files = written(tmp_path, checkpoint.weights, {**description, "num_res_blocks": 2, "num_heads": 1, **flags})
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([500])
    with torch.inference_mode():
        expected = checkpoint(x, t)
        found = import_model(files[0], architecture=files[1]).network(x, t)
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_the_noise_is_described(tmp_path: Path) -> None:
    noise: dict[str, Any] = {"noise_schedule": "cosine", "diffusion_steps": 30, "predict_xstart": True}
    checkpoint, description = made(**noise)
    weights, architecture = written(tmp_path, checkpoint.weights, description)
    model = import_model(weights, architecture=architecture, terms="of its author")
    assert torch.equal(model.diffusion.betas, Diffusion("cosine", 30).betas)
    assert (model.diffusion.prediction, model.steps, model.terms) == ("x0", 30, "of its author")


PARAMETERS = {  # in millions, as table 11 of the paper has them
    "ImageNet 64": 296,
    "ImageNet 128": 422,
    "ImageNet 256": 554,
    "ImageNet 512": 559,
}


def ready_descriptions() -> dict[str, dict[str, Any]]:
    """What docs/other-models.md describes: the first bold words of the paragraph above each JSON name it."""
    found = re.findall(
        r"\n\n\*\*([^*]+)\*\*(?:[^\n]|\n(?!\n))*\n\n```json\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL
    )
    return {name: json.loads(text) for name, text in found}


def test_ready_descriptions_are_understood(tmp_path: Path) -> None:
    described = ready_descriptions()
    assert described.keys() >= PARAMETERS.keys()
    for name, options in described.items():
        (tmp_path / "a.json").write_text(json.dumps(options))
        full = read_description(tmp_path / "a.json")
        with torch.device("meta"):
            count = AdmUNet(config_of(full)).parameter_count
        if full["learn_sigma"]:
            count += 3 * (9 * config_of(full).channels[0] + 1)  # the variance, which is cut off
        if full["class_cond"]:
            count += 1000 * 4 * full["num_channels"]  # the classes of ImageNet, of which one is chosen
        assert name not in PARAMETERS or round(count / 1e6) == PARAMETERS[name], name


# --------------------------------------------------------------------------------------------------------- bad input


class Bomb:
    """What a pickle can do to its reader."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("exploded", "w")


def refused(error: type[PixmendError], told: str, *files: Path, label: int | None = None) -> None:
    with pytest.raises(error, match=told) as caught:
        import_model(files[0], architecture=files[1], label=label)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint, description = made()
    files = written(tmp_path, {**checkpoint.weights, "time_embed.0.weight": Bomb()}, description)
    refused(ModelFileError, "model.pt holds no weights that can be read safely", *files)
    files[0].write_bytes(pickle.dumps(Bomb()))
    refused(ModelFileError, "model.pt holds no weights", *files)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("end", [b"", b"PK\x05\x06" + bytes(18)], ids=["alone", "before a zip"])
def test_a_pickle_before_an_empty_zip_is_looked_at(end: bytes, tmp_path: Path) -> None:
    """Python finds a zip by its end; torch by its first bytes, and reads all else as pickles."""
    key: object = ()
    for _ in range(12):
        key = (key, key)  # 2^12 values; of 60 it would take for ever
    files = written(tmp_path, {}, made()[1])
    torch.save({key: 1}, files[0], _use_new_zipfile_serialization=False)
    files[0].write_bytes(files[0].read_bytes() + end)
    refused(ModelFileError, "tuples within tuples", *files)


@pytest.mark.parametrize("content", [b"", b"just some text\n" * 20, b"PK\x03\x04 and no archive", b"\x80\x02}q\x00."])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    files = written(tmp_path, {}, made()[1])
    files[0].write_bytes(content)
    refused(ModelFileError, "model.pt", *files)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_channels": "64"}, "num_channels"),
        ({"learn_sigma": "false"}, "learn_sigma"),
        ({"resblock_updown": 1}, "resblock_updown"),
        ({"num_res_blocks": True}, "num_res_blocks"),
        ({"num_res_block": 1}, "num_res_block = 1"),
        ({"noise_schedule": "sqrt"}, "noise_schedule"),
        ({"diffusion_steps": 1}, "too few"),
        ({"diffusion_steps": 10**12}, "diffusion_steps"),
        ({"num_channels": 2**80}, "cannot be built"),
        ({"rescale_timesteps": True, "diffusion_steps": 4000}, "rescale_timesteps"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": 1 << 17, "attention_resolutions": str(1 << 16)}, "131072 pixels a side"),
        ({"channel_mult": ""}, "image_size = 16 has no usual channel_mult"),
        ({"channel_mult": "1,x"}, "cannot be built"),
        ({"channel_mult": [0.4, 1]}, "multiple of groups"),
        ({"attention_resolutions": "0"}, "cannot be built"),
        ({"num_heads_upsample": 4}, "num_heads_upsample"),
        ({"large_size": 64, "small_size": 16}, "upsampler"),
        ({"classifier_width": 128}, "classifier"),
    ],
)
def test_descriptions_that_cannot_be(change: dict[str, object], told: str, tmp_path: Path) -> None:
    checkpoint, description = made()
    refused(ModelFileError, told, *written(tmp_path, checkpoint.weights, {**description, **change}))


@pytest.mark.parametrize("text", ["", "[1]", "{", "image_size: 256"])
def test_descriptions_that_are_no_json(text: str, tmp_path: Path) -> None:
    files = written(tmp_path, made()[0].weights, {})
    files[1].write_text(text)
    refused(ModelFileError, "model.json .*(correct it|must name options)", *files)


def test_descriptions_that_are_not_there(tmp_path: Path) -> None:
    files = written(tmp_path, made()[0].weights, {"num_channels": 64})
    refused(ModelFileError, "image_size", *files)
    refused(FileMissingError, "gone.json", files[0], tmp_path / "gone.json")
    with pytest.raises(OptionError, match="--architecture"):
        import_model(files[0])
    with pytest.raises(OptionError, match="size"):
        import_model(files[0], architecture=files[1], size=16)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_channels": 32, "channel_mult": "1,2"}, "time_embed.0.weight is of shape"),
        ({"num_res_blocks": 2}, "is missing, and so are"),
        ({"attention_resolutions": "16"}, "is missing"),
        ({"use_scale_shift_norm": False}, "emb_layers"),
        ({"learn_sigma": False}, "out.2.weight is of shape"),
        ({"class_cond": True}, "label_emb.weight"),
        ({"resblock_updown": False}, "is missing"),
    ],
)
def test_weights_that_are_not_those_described(change: dict[str, object], told: str, tmp_path: Path) -> None:
    checkpoint, description = made()
    refused(ModelFileError, told, *written(tmp_path, checkpoint.weights, {**description, **change}), label=None)


def test_weights_that_are_more_fewer_or_none(tmp_path: Path) -> None:
    checkpoint, description = made()
    weights = checkpoint.weights
    for changed, told in (
        ({**weights, "extra.weight": torch.zeros(1)}, "extra.weight is more than is described"),
        ({n: v for n, v in weights.items() if n != "out.0.bias"}, "out.0.bias is missing"),
        ({n: v for n, v in weights.items() if not n.startswith("output_blocks")}, "classifiers have none"),
        ({**weights, "input_blocks.0.0.weight": torch.zeros(32, 6, 3, 3)}, "upsampler"),
        ({**weights, "input_blocks.0.0.weight": torch.zeros(32, 1, 3, 3)}, "not for RGB"),
        ({**weights, "out.2.bias": torch.full((6,), math.nan)}, "not finite"),
        ({"state_dict": weights}, "'state_dict', a dict"),
        ({**weights, "step": torch.tensor(7)}, "'step'"),
        (torch.zeros(3), "output_blocks"),
    ):
        refused(ModelFileError, told, *written(tmp_path, changed, description))


def test_classes_that_cannot_be(tmp_path: Path) -> None:
    checkpoint, description = made(CASES[2])
    files = written(tmp_path, checkpoint.weights, description)
    refused(OptionError, "--class 0 to 4", *files)
    refused(OptionError, "class 5 is not among the 5", *files, label=5)
    refused(OptionError, "leave --class 1 out", *written(tmp_path, *(made()[0].weights, made()[1])), label=1)
