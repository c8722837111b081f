"""pixmend repairs the missing parts of pictures with small diffusion models that can be trained on a folder.

    import pixmend
    result = pixmend.inpainting("photo.png", "mask.png", seed=1)
    pixmend.save_picture(result.pictures[0], "mended.png")

The public names stand here and load on first use (PEP 562), so that `import pixmend` costs milliseconds, not a torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

# How long a thread of torch's on a processor waits awake for the others before it sleeps: libgomp reads it as torch is
# loaded. Its own 300,000 turns waste time slices at each of thousands of operations where other programs want the
# cores: a fill takes nearly twice as long (docs/results/busy.md). If either is set already, it is left alone.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "2000"

if TYPE_CHECKING:  # what type checkers and editors see; a test compares it with _NAMES
    from pixmend.adapters import export_model as export_model
    from pixmend.adapters import import_model as import_model
    from pixmend.backends import open_network as open_network
    from pixmend.backends.onnx_file import export_onnx as export_onnx
    from pixmend.checkpoint import Model as Model
    from pixmend.checkpoint import load_model as load_model
    from pixmend.checkpoint import read_header as read_header
    from pixmend.checkpoint import save_model as save_model
    from pixmend.data import InpaintingDataset as InpaintingDataset
    from pixmend.denoising.law import NoiseLaw as NoiseLaw
    from pixmend.denoising.model_file import Denoiser as Denoiser
    from pixmend.denoising.model_file import load_denoiser as load_denoiser
    from pixmend.denoising.networks import UNetCIFAR as UNetCIFAR
    from pixmend.denoising.networks import UNetDiffusionCIFAR as UNetDiffusionCIFAR
    from pixmend.denoising.picture import denoise as denoise
    from pixmend.diffusion import Diffusion as Diffusion
    from pixmend.errors import PixmendError as PixmendError
    from pixmend.extending import extend as extend
    from pixmend.images import Picture as Picture
    from pixmend.images import load_image as load_image
    from pixmend.images import load_mask as load_mask
    from pixmend.images import mask_from_alpha as mask_from_alpha
    from pixmend.images import mask_from_color as mask_from_color
    from pixmend.images import open_picture as open_picture
    from pixmend.images import save_picture as save_picture
    from pixmend.images import save_tensor_as_image as save_tensor_as_image
    from pixmend.inpainting import Inpainted as Inpainted
    from pixmend.inpainting import inpainting as inpainting
    from pixmend.inputs import mask_preview as mask_preview
    from pixmend.masks import create_advanced_mask as create_advanced_mask
    from pixmend.onnx_filler import export_onnx_filler as export_onnx_filler
    from pixmend.samplers import ddim as ddim
    from pixmend.samplers import ddnm as ddnm
    from pixmend.samplers import ddpm as ddpm
    from pixmend.samplers import dpmpp_2m as dpmpp_2m
    from pixmend.samplers import repaint as repaint
    from pixmend.samplers import unipc as unipc
    from pixmend.schedules import make_betas as make_betas
    from pixmend.train_config import TrainConfig as TrainConfig
    from pixmend.training import train_model as train_model
    from pixmend.unet import UNet as UNet
    from pixmend.unet import UNetConfig as UNetConfig
    from pixmend.unet import sinusoidal_embedding as sinusoidal_embedding

    __version__: str

_NAMES = {  # module -> the public names that live in it
    "adapters": ("export_model", "import_model"),
    "backends": ("open_network",),
    "backends.onnx_file": ("export_onnx",),
    "checkpoint": ("Model", "load_model", "read_header", "save_model"),
    "data": ("InpaintingDataset",),
    "denoising.law": ("NoiseLaw",),
    "denoising.model_file": ("Denoiser", "load_denoiser"),
    "denoising.networks": ("UNetCIFAR", "UNetDiffusionCIFAR"),
    "denoising.picture": ("denoise",),
    "diffusion": ("Diffusion",),
    "errors": ("PixmendError",),
    "extending": ("extend",),
    "images": (
        "Picture",
        "load_image",
        "load_mask",
        "mask_from_alpha",
        "mask_from_color",
        "open_picture",
        "save_picture",
        "save_tensor_as_image",
    ),
    "inputs": ("mask_preview",),
    "inpainting": ("Inpainted", "inpainting"),
    "masks": ("create_advanced_mask",),
    "onnx_filler": ("export_onnx_filler",),
    "samplers": ("ddim", "ddnm", "ddpm", "dpmpp_2m", "repaint", "unipc"),
    "schedules": ("make_betas",),
    "train_config": ("TrainConfig",),
    "training": ("train_model",),
    "unet": ("UNet", "UNetConfig", "sinusoidal_embedding"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # imports half of the standard library

    try:
        return version("pixmend")
    except PackageNotFoundError:
        return "0+uninstalled"  # run from a source folder


def _load(name: str) -> object:
    if name == "__version__":
        value: object = _version()
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(f"pixmend.{_MODULE_OF[name]}"), name)
    else:
        raise AttributeError(f"module 'pixmend' has no attribute {name!r}")
    globals()[name] = value
    return value


if not TYPE_CHECKING:  # a type checker that saw it would take every misspelt name for a lazy one
    __getattr__ = _load


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, "__version__"})


class _Package(ModuleType):
    """Importing a module also sets it as an attribute here; its function `inpainting` must not be hidden by it."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
