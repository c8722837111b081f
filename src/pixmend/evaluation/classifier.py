"""A small classifier that is trained to tell real from filled: 50 % of right answers is what a perfect fill leaves it.

Logistic regression on statistics of the Laplacian bands, in luminance and colour, inside the hole and against what
stands around it. It is asked about pictures that it was not trained on. Its answer counts only where it can see
something, so that it tells Telea's fills in VALID_TELEA of the cases or more.

`accuracy_of_lots` is a smoke test of that procedure and no more: labels drawn by lot know nothing of any picture, so
that only being asked about what it learnt from can lift the answers above chance. It says nothing of what the
features give away.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.evaluation.metrics import boundary_gradient, inside_gradient, laplacian_bands
from pixmend.evaluation.statistics import Interval, ratio_interval

VALID_TELEA = 0.95
FOLDS = 5
L2 = 0.01  # of the weights, for features of mean 0 and deviation 1
DRAWS = 4  # of the lots between real pictures
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
OPPONENTS = ((0.299, 0.587, 0.114), (0.5, -0.5, 0.0), (0.25, 0.25, -0.5))  # luminance, red-green, yellow-blue
SEED = 0


def features(x: Tensor, hole: Tensor) -> Tensor:
    """What the classifier is shown of pictures (B, 3, H, W) with holes (B, 1, H, W): (B, F), logarithms of amounts."""
    colours = torch.einsum("oc,bchw->bohw", x.new_tensor(OPPONENTS), x)
    found = []
    region = hole
    for band in laplacian_bands(colours):
        across = F.pad((band[..., 1:] - band[..., :-1]).abs(), (0, 1))
        down = F.pad((band[..., 1:, :] - band[..., :-1, :]).abs(), (0, 0, 0, 1))
        for amounts in (band.abs(), F.avg_pool2d(band.abs(), 3, 1, 1), (across + down)[:, :1]):
            inside, outside = _spread(amounts, region), _spread(amounts, 1 - region)
            found += [inside, inside - outside]
        region = F.max_pool2d(region, 2, ceil_mode=True)
    edges = [boundary_gradient(x, hole), inside_gradient(x, hole)]
    return torch.cat([*found, *(_log(edge)[:, None] for edge in edges)], dim=1)


def accuracy(real: Tensor, filled: Tensor) -> Interval:
    """How often real is told from filled, each picture asked about by a classifier that learnt from the others.

    real, filled: (B, F), the features of the same pictures with the same holes; B >= FOLDS. The interval is that of
    the pictures asked about, the classifiers as they are.
    """
    right = torch.zeros(len(real))
    for learnt, asked in _folds(len(real)):
        answer = _learn(torch.cat([real[learnt], filled[learnt]]), torch.arange(2 * len(learnt)) >= len(learnt))
        right[asked] = ((answer(real[asked]) < 0).float() + (answer(filled[asked]) >= 0).float()) / 2
    return ratio_interval(right.double().numpy(), np.ones(len(right)))


def accuracy_of_lots(real: Tensor) -> float:
    """The share of right answers between real pictures, each called real or filled by the toss of a coin.

    Coins and not halves: where just half of all is called filled, what is learnt from has less of what is asked about,
    and the expected share is below 50 %.
    """
    shares = []
    for draw in range(DRAWS):
        generator = torch.Generator().manual_seed(SEED + draw)
        called_filled = torch.randint(2, (len(real),), generator=generator) == 1
        answers = torch.zeros(len(real))
        for learnt, asked in _folds(len(real)):
            answers[asked] = _learn(real[learnt], called_filled[learnt])(real[asked])
        shares.append(float(((answers >= 0) == called_filled).float().mean()))
    return sum(shares) / DRAWS


def most_by_lot(pictures: int) -> float:
    """What `accuracy_of_lots` of so many pictures stays below: 50 % and four standard deviations.

    They are those of one answer for a picture, 0.5 / sqrt(pictures), as if the draws were one: answers on the same
    pictures hang together. Of noise, the standard deviation is about two thirds of that. Who is asked about what he
    learnt comes to 100 %.
    """
    return 0.5 + 4 * 0.5 / math.sqrt(pictures)


def _folds(count: int) -> list[tuple[Tensor, Tensor]]:
    """The pictures to learn from, and those to be asked about."""
    parts = torch.randperm(count, generator=torch.Generator().manual_seed(SEED)).chunk(FOLDS)
    return [(torch.cat([p for p in parts if p is not part]), part) for part in parts]


def _learn(shown: Tensor, filled: Tensor) -> Callable[[Tensor], Tensor]:
    """What answers 0 or more for features like those of fills, less for those of real pictures."""
    mean, deviation = shown.mean(dim=0), shown.std(dim=0) + 1e-6
    x, wanted = (shown - mean) / deviation, filled.float()
    weights = torch.zeros(x.shape[1] + 1, requires_grad=True)  # the last one is the threshold
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ weights[:-1] + weights[-1], wanted)
        value = value + L2 * weights[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    found = weights.detach()
    return lambda features: (features - mean) / deviation @ found[:-1] + found[-1]


def _spread(amounts: Tensor, region: Tensor) -> Tensor:
    """Quantiles, mean and root mean square of each channel where region (B, 1, h, w) is 1, as logarithms: (B, 7 C)."""
    rows = []
    for values, inside in zip(amounts, region[:, 0] > 0, strict=True):
        seen = values[:, inside] if inside.any() else values.new_zeros(len(values), 1)
        quantiles = torch.quantile(seen, seen.new_tensor(QUANTILES), dim=1).T
        moments = torch.stack([seen.mean(dim=1), seen.square().mean(dim=1).sqrt()], dim=1)
        rows.append(torch.cat([quantiles, moments], dim=1).flatten())
    return _log(torch.stack(rows))


def _log(amounts: Tensor) -> Tensor:
    return torch.log(amounts + 1 / 255)
