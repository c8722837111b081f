"""Group normalisation and modulation of features in channels-last, where torch is slow at them on a processor.

Convolutions are faster in channels-last, but torch's backward pass of a group normalisation takes ten to forty times as
long in it as in NCHW, and broadcasting a number for each channel walks in steps of a single pixel's channels. Here both
go row by row, and a whole network trains in channels-last (docs/training-speed.md).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WORTH = 2048  # pixels: channels-last trains slower at 32x32, and faster at 64x64 (docs/results/measures.md)
SMALL = 1024  # pixels: of fewer torch's forward pass, too, takes ten times as long in channels-last as in NCHW


class GroupNorm(nn.GroupNorm):
    """torch's, modulated where it is told, with a backward pass of its own for channels-last on a processor."""

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Return y, or scale y + shift, y being x normalised. x: (B, C, H, W); scale, shift: (B, C), both or none."""
        if self.affine and torch.is_grad_enabled() and x.device.type == "cpu" and is_channels_last(x):
            of_norm = self.weight, self.bias, self.num_groups, self.eps
            out: Tensor = _GroupNorm.apply(x, *of_norm, scale, shift)  # type: ignore[no-untyped-call]
            return out
        y = super().forward(x)
        return y if scale is None or shift is None else _modulated(y, scale, shift)


class Unnormalised(nn.Module):
    """In the place of a `GroupNorm`: the features as they are, modulated where it is told."""

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Return x, or scale x + shift. x: (B, C, H, W); scale, shift: (B, C), both or none."""
        return x if scale is None or shift is None else _modulated(x, scale, shift)


def normalisation(groups: int, channels: int) -> nn.Module:
    """A `GroupNorm`, or with 0 groups none."""
    return GroupNorm(groups, channels) if groups else Unnormalised()


def as_trained(x: Tensor, *, normalised: bool = True) -> Tensor:
    """Return x in the layout that trains fastest: channels-last for bfloat16 on a processor, else as it is.

    normalised: whether the network has group normalisations, which are what small pictures lose by it.
    """
    rounded = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    faster = rounded and torch.is_grad_enabled() and (x.shape[2] * x.shape[3] >= WORTH or not normalised)
    return x.contiguous(memory_format=torch.channels_last) if faster else x


def is_channels_last(x: Tensor) -> bool:
    """Whether x: (B, C, H, W) lies in channels-last, and not in NCHW as well."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


class _GroupNorm(torch.autograd.Function):
    """scale (w xhat + b) + shift with xhat = (x - mean) / deviation, those of a group of channels of one picture.

    Wu and He 2018, https://arxiv.org/abs/1803.08494. With g the gradient of what comes out, f = scale w, and p and q
    the means of f g and of f g xhat over a group, the gradient of x is (f g - p - xhat q) / deviation: a sum of g, x
    and 1 with one factor each for a picture's channel. They follow from the sums of g and of g x over the picture.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        groups: int,
        eps: float,
        scale: Tensor | None,
        shift: Tensor | None,
    ) -> Tensor:
        b, c, h, w = x.shape
        if h * w >= SMALL:
            y, mean, inverse = torch.native_group_norm(x, weight, bias, b, c, h * w, groups, eps)  # mean: (B, groups)
        else:
            exact = x.to(weight.dtype)
            mean, inverse = _statistics(exact, groups, eps)
            factor = weight * inverse.repeat_interleave(c // groups, dim=1)  # (B, C)
            offset = bias - factor * mean.repeat_interleave(c // groups, dim=1)
            y = _modulated(exact, factor, offset).to(x.dtype)
        ctx.save_for_backward(x, weight, bias, mean, inverse, scale)
        return y if scale is None or shift is None else _modulated(y, scale, shift)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse, scale = ctx.saved_tensors
        _, c, h, w = x.shape
        g = g.contiguous(memory_format=torch.channels_last)
        each = c // mean.shape[1]  # channels of a group

        def of_channels(of_groups: Tensor) -> Tensor:
            return of_groups.to(weight.dtype).repeat_interleave(each, dim=1)  # (B, C)

        def mean_of_group(sums: Tensor) -> Tensor:
            return of_channels(sums.view(len(x), -1, each).sum(2) / (each * h * w))

        mean, inverse = of_channels(mean), of_channels(inverse)
        sum_g = _summed(g, weight.dtype)  # (B, C)
        sum_gx = (_summed(g * x, weight.dtype) - mean * sum_g) * inverse  # of g xhat
        f = weight if scale is None else weight * scale.to(weight.dtype)
        p, q = mean_of_group(f * sum_g), mean_of_group(f * sum_gx)
        of_x = -inverse * inverse * q
        of_1 = -inverse * p - of_x * mean
        of_g, of_x, of_1 = (_along(factor.to(x.dtype), w) for factor in (inverse * f, of_x, of_1))
        rows = torch.addcmul(of_1, _rows(x), of_x).addcmul_(_rows(g), of_g)
        of_input = _unrolled(rows, x)
        if scale is None:
            return of_input, sum_gx.sum(0), sum_g.sum(0), None, None, None, None
        of_scale = (weight * sum_gx + bias * sum_g).to(scale.dtype)
        of_weight, of_bias = (scale * sum_gx).sum(0), (scale * sum_g).sum(0)
        return of_input, of_weight, of_bias, None, None, of_scale, sum_g.to(scale.dtype)


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    if not is_channels_last(x):
        return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None])
    width = x.shape[3]
    return _unrolled(torch.addcmul(_along(shift, width), _rows(x), _along(scale, width)), x)


def _statistics(x: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """The mean of each group of channels and the inverse of its deviation, (B, groups) both."""
    b, c, h, w = x.shape
    first, second = (_summed(v, x.dtype).view(b, groups, -1).sum(2) / (c // groups * h * w) for v in (x, x * x))
    return first, ((second - first * first).clamp(min=0) + eps).rsqrt()


def _summed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum over each picture, (B, C). A sum of bfloat16 is rounded to it, so there is one for each eighth."""
    b, c, h, _ = x.shape
    parts = math.gcd(h, 8)
    return _rows(x).reshape(b * parts, -1, c).sum(1).to(dtype).view(b, parts, c).sum(1)


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) in channels-last as (B, H, W C), the same memory."""
    return x.permute(0, 2, 3, 1).flatten(2)


def _unrolled(rows: Tensor, like: Tensor) -> Tensor:
    """(B, H, W C) as (B, C, H, W) in channels-last."""
    b, c, h, w = like.shape
    return rows.view(b, h, w, c).permute(0, 3, 1, 2)


def _along(of_channels: Tensor, width: int) -> Tensor:
    """A number for each channel, (B, C), for each value of a row: (B, 1, W C)."""
    return of_channels.repeat(1, width)[:, None]
