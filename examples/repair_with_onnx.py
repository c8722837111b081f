"""Repair a picture with ONNX Runtime, NumPy and Pillow alone: python repair_with_onnx.py MODEL.onnx PICTURE MASK OUT.

White in the mask is filled. Works in one window of the model's size around the hole, in four steps of DDIM.
"""

import json
import sys
from itertools import pairwise

import numpy as np
import onnxruntime
from PIL import Image


def enlarge(a):
    """(..., H, W) to twice the size, bilinear."""
    for axis in (-2, -1):
        p = np.moveaxis(a, axis, -1)
        p = np.pad(p, [(0, 0)] * (p.ndim - 1) + [(1, 1)], "edge")
        pairs = np.stack([0.25 * p[..., :-2] + 0.75 * p[..., 1:-1], 0.75 * p[..., 1:-1] + 0.25 * p[..., 2:]], -1)
        a = np.moveaxis(pairs.reshape(*pairs.shape[:-2], -1), -1, axis)
    return a


def bend(a):
    """The mean of the four neighbours less the pixel itself."""
    p = np.pad(a, [(0, 0), (1, 1), (1, 1)], "edge")
    return (p[:, 1:-1, :-2] + p[:, 1:-1, 2:] + p[:, :-2, 1:-1] + p[:, 2:, 1:-1]) / 4 - a


def smooth_fill(sums, weight):
    """The guide: the known pixels are averaged down a pyramid, which is enlarged again and smoothed at every level."""
    values = sums / np.maximum(weight, 1e-6)
    if sums.shape[-1] == 1:
        return values
    sums2, weight2 = (v.reshape(len(v), v.shape[1] // 2, 2, -1, 2).sum((2, 4)) for v in (sums, weight))
    certain = np.minimum(weight2, 1)
    filled = enlarge(smooth_fill(sums2 * certain / np.maximum(weight2, 1e-6), certain))
    filled = weight * values + (1 - weight) * filled
    filled = weight * values + (1 - weight) * (filled + bend(filled))
    for rate in 1 / (17 / 8 + 15 / 8 * np.cos(np.pi / 8 * np.array([1, 3, 5, 7]))):
        filled = weight * values + (1 - weight) * (filled - rate * bend(bend(filled)))
    return filled


model, picture, mask, out = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
told = session.get_modelmeta().custom_metadata_map
header, alpha_bars = json.loads(told["pixmend"]), json.loads(told["alpha_bars"])
size, T, mode = header["size"], len(alpha_bars), header["conditioning"]
if header["diffusion"]["prediction"] != "v" or mode == "plain" or size & (size - 1):
    sys.exit("this script is for known-aware models that predict v, of a size that is a power of two")

whole = np.array(Image.open(picture).convert("RGB"))
white = np.array(Image.open(mask).convert("L")) > 127
rows, columns = np.nonzero(white)
top = max(0, min((rows.min() + rows.max() + 1 - size) // 2, white.shape[0] - size))
left = max(0, min((columns.min() + columns.max() + 1 - size) // 2, white.shape[1] - size))
window = np.s_[top : top + size, left : left + size]
x0 = whole[window].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1  # (3, size, size), from -1 to 1
hole = white[window][None]  # (1, size, size)
if x0.shape[1:] != (size, size) or hole.sum() != white.sum():
    sys.exit(f"the picture must be at least {size} pixels wide and high, and its hole lie within as many")

guide = np.where(hole, smooth_fill(np.where(hole, 0, x0), 1.0 - hole).clip(-1, 1), x0)
base = guide if mode == "residual" else 0.0  # what the diffusion in the hole starts from
noisy = np.random.default_rng(0).standard_normal(x0.shape)  # x_t - sqrt(alpha_bar_t) base
times = [round(T - i * T / 4) - 1 for i in range(4)]
for t, s in pairwise([*times, None]):
    a, b = alpha_bars[t], 1.0 if s is None else alpha_bars[s]
    seen = np.concatenate([np.where(hole, noisy, x0), hole, guide]).astype(np.float32)
    (v,) = session.run(None, {"x": seen[None], "t": np.array([t], np.float32)})
    clean = np.clip(base + a**0.5 * noisy - (1 - a) ** 0.5 * v[0], -1, 1) - base
    noise = (noisy - a**0.5 * clean) / (1 - a) ** 0.5
    noisy = b**0.5 * clean + (1 - b) ** 0.5 * noise
filled = np.rint(np.clip(base + noisy, -1, 1) * 127.5 + 127.5).transpose(1, 2, 0)
whole[window] = np.where(hole.transpose(1, 2, 0), filled, whole[window]).astype(np.uint8)
Image.fromarray(whole).save(out)
