"""Fills without any training: what every learnt fill has to be better than."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from pixmend.components import Hole
from pixmend.evaluation.method import Method, Unavailable
from pixmend.evaluation.protocol import Pixels

RADIUS = 3  # pixels around the hole that OpenCV looks at; what its tutorial uses

CLASSICAL = ("telea", "navier-stokes", "biharmonic")  # the best of these is what others are compared with


def mean_colour(picture: Pixels, hole: Hole, seed: int) -> Pixels:
    """The mean of the known pixels, everywhere in the hole."""
    filled = picture.copy()
    filled[hole] = np.rint(picture[~hole].mean(axis=0))
    return filled


def telea() -> Method:
    """Telea 2004, "An image inpainting technique based on the fast marching method", as OpenCV has it."""
    cv2 = _module("cv2", "opencv-python-headless")
    return _opencv(f"OpenCV Telea, radius {RADIUS}", "telea", cv2, cv2.INPAINT_TELEA)


def navier_stokes() -> Method:
    """Bertalmio, Bertozzi and Sapiro 2001, "Navier-Stokes, fluid dynamics, and image inpainting", as OpenCV has it."""
    cv2 = _module("cv2", "opencv-python-headless")
    return _opencv(f"OpenCV Navier-Stokes, radius {RADIUS}", "navier-stokes", cv2, cv2.INPAINT_NS)


def biharmonic() -> Method:
    """Damelin and Hoang 2018, "On surface completion and image inpainting by biharmonic functions", as scikit-image
    has it.
    """
    restoration = _module("skimage.restoration", "scikit-image")

    def fill(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        values = restoration.inpaint_biharmonic(picture, hole, channel_axis=-1)  # floats in [0, 1]
        filled: Pixels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
        return filled

    version = import_module("skimage").__version__
    return Method("scikit-image biharmonic", fill, identity=version, key="biharmonic")


def guide() -> Method:
    """What pixmend's networks are told to begin with (`conditioning.smooth_fill`); what they make better, or worse."""
    import torch

    from pixmend.conditioning import smooth_fill

    def fill(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        x = torch.from_numpy(picture.transpose(2, 0, 1)[None] / np.float32(127.5) - 1)
        filled = smooth_fill(x, torch.from_numpy(hole[None, None].astype(np.float32)))[0]
        return np.rint((filled.numpy().transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)

    return Method("pixmend's guide alone", fill, identity="smooth", key="guide")


def shiftmap() -> Method:
    """Pritch, Kav-Venaki and Peleg 2009, "Shift-map image editing", as OpenCV's contributed module xphoto has it."""
    return _xphoto("SHIFTMAP", "shiftmap", "INPAINT_SHIFTMAP")


def fsr() -> Method:
    """Genser et al. 2018, "Spectral constrained frequency selective extrapolation", the fast setting of OpenCV's
    xphoto.
    """
    return _xphoto("FSR, fast", "fsr", "INPAINT_FSR_FAST")


BASELINES: dict[str, Callable[[], Method]] = {
    "mean": lambda: Method("mean colour", mean_colour, key="mean"),
    "telea": telea,
    "navier-stokes": navier_stokes,
    "biharmonic": biharmonic,
    "guide": guide,
    "shiftmap": shiftmap,
    "fsr": fsr,
}


def _opencv(name: str, key: str, cv2: Any, flag: int) -> Method:
    def fill(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        filled: Pixels = cv2.inpaint(picture, hole.astype(np.uint8), RADIUS, flag)
        return filled

    return Method(name, fill, identity=cv2.__version__, key=key)


def _xphoto(name: str, key: str, flag: str) -> Method:
    cv2 = _module("cv2", "opencv-contrib-python-headless")
    if not hasattr(getattr(cv2, "xphoto", None), flag):
        raise Unavailable(f"{key} is left out: this OpenCV has no xphoto; install opencv-contrib-python-headless")

    def fill(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        filled = picture.copy()
        known = np.where(hole, 0, 255).astype(np.uint8)  # here 0 is what to fill
        if key == "shiftmap":  # it asks for CIE L*a*b*
            lab = cv2.cvtColor(picture, cv2.COLOR_RGB2Lab)
            cv2.xphoto.inpaint(lab, known, lab_filled := lab.copy(), getattr(cv2.xphoto, flag))
            return np.asarray(cv2.cvtColor(lab_filled, cv2.COLOR_Lab2RGB), np.uint8)
        cv2.xphoto.inpaint(picture, known, filled, getattr(cv2.xphoto, flag))
        return filled

    return Method(f"OpenCV xphoto {name}", fill, identity=cv2.__version__, key=key, apart=True)


def _module(name: str, package: str) -> Any:
    if find_spec(name.split(".")[0]) is None:
        raise Unavailable(f"what needs {name} is left out: it is not installed; pip install {package}")
    return import_module(name)
