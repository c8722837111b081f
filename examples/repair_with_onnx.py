"""Repair a picture with ONNX Runtime, NumPy and Pillow alone: python repair_with_onnx.py FILLER.onnx PICTURE MASK OUT.

White in the mask is filled, window by window, each around the first pixels that are left.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

filler, picture, mask, out = sys.argv[1:]
onnxruntime.set_default_logger_severity(3)  # it warns of the noise in the file, which may be replaced
session = onnxruntime.InferenceSession(filler, providers=["CPUExecutionProvider"])
size = session.get_inputs()[0].shape[-1]
whole = np.array(Image.open(picture).convert("RGB"))
hole = np.array(Image.open(mask).convert("L")) > 127
if whole.shape[:2] != hole.shape or min(hole.shape) < size:
    sys.exit(f"picture and mask must be of one size, and at least {size} pixels wide and high")
while hole.any():
    places = np.argwhere(hole)
    places = places[np.abs(places - places[0]).max(1) < size // 3]  # so that enough around them is seen
    top, left = np.clip((places.min(0) + places.max(0) + 1 - size) // 2, 0, np.subtract(hole.shape, size))
    window = np.s_[top : top + size, left : left + size]
    image = whole[window].transpose(2, 0, 1)[None].astype(np.float32) / 255
    (filled,) = session.run(None, {"image": image, "mask": hole[window][None, None].astype(np.float32)})
    rows, columns = places.T
    whole[rows, columns] = np.rint(255 * filled[0][:, rows - top, columns - left].T)
    hole[rows, columns] = False
Image.fromarray(whole).save(out)
