"""What a network answers or is told beyond a plain one, taken out of its weights: the variance, and classes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pixmend.adapters.mapping import MisfitError
from pixmend.errors import OptionError


def without_variance(tensors: Mapping[str, Tensor], last: str) -> dict[str, Tensor]:
    """The weights without the second half of the last layer, which answers the variance of a step.

    It is learnt upon what the first half answers (Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672), and
    pixmend's samplers have a fixed variance. last: the name of that layer.
    """
    names = f"{last}.weight", f"{last}.bias"
    cut = {name: tensors[name][:3] for name in names if name in tensors and len(tensors[name]) == 6}
    if len(cut) < 2:
        raise MisfitError(f"{last} does not answer the 6 channels of a network that learnt the variance")
    return {**tensors, **cut}


def fold_label(
    tensors: Mapping[str, Tensor], embedding: str, bias: str, label: int | None, *, wanted: bool
) -> dict[str, Tensor]:
    """The weights of a network of one class.

    The embedding of the label, a row of the tensor `embedding`, is added to the result of the last layer of the time
    MLP for every picture; so it may as well be added to that layer's bias. wanted: whether the network knows classes.
    """
    if not wanted:
        if label is not None:
            raise OptionError(f"the network knows no classes; leave --class {label} out")
        return dict(tensors)
    table = tensors.get(embedding)
    if table is None or bias not in tensors or table.ndim != 2 or table.shape[1:] != tensors[bias].shape:
        raise MisfitError(f"there is no table of classes, {embedding}, that would fit")
    last = len(table) - 1
    if label is None:
        raise OptionError(f"the network knows {last + 1} classes; choose the one to fill with: --class 0 to {last}")
    if not 0 <= label <= last:
        raise OptionError(f"class {label} is not among the {last + 1} of this network; choose 0 to {last}")
    folded = {name: value for name, value in tensors.items() if name != embedding}
    folded[bias] = folded[bias] + table[label]
    return folded
