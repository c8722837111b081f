"""What fills holes: one interface for all methods, so that one more takes ten lines.

def median(picture, hole, seed):                # (H, W, 3) uint8, (H, W) bool with true = hole, an integer
    filled = picture.copy()
    filled[hole] = np.median(picture[~hole], axis=0)
    return filled

evaluate("photographs", "report", methods=[*choose_methods(["telea"]), Method("median colour", median)])
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pixmend.components import Hole
from pixmend.evaluation.protocol import Pixels


class Filled(NamedTuple):
    """A fill, and what it cost beside time."""

    pixels: Pixels  # (H, W, 3)
    network_calls: int


Fill = Callable[[Pixels, Hole, int], Pixels | Filled]  # a picture, its hole and a seed


@dataclass(frozen=True)
class Limits:
    """A slow method is measured on less; the protocol's own numbers hold where these are larger."""

    families: tuple[str, ...] | None = None
    pictures: int = 10**9
    fills: int = 10**9


@dataclass(frozen=True)
class Method:
    """A way to fill holes. What it changes outside of them is measured, and put back before all else is."""

    name: str  # as tables and plots show it
    fill: Fill
    random: bool = False  # whether another seed gives another fill
    # What its fills depend on beside the name: versions, the hash of a model file. Fills that were made before are used
    # again where name and identity are the same: who changes the function changes one of them.
    identity: str = ""
    key: str = ""  # its word on the command line
    series: str = ""  # a curve of the plot of quality against calls; "" = none
    apart: bool = False  # shown below a line: not compared with the others
    limits: Limits = Limits()
    called: str = ""  # what it was called before a hash was added that tells it from another; "" = as it is

    def __call__(self, picture: Pixels, hole: Hole, seed: int) -> Filled:
        """A fill, with 0 calls of a network where the method tells none."""
        result = self.fill(picture, hole, seed)
        return result if isinstance(result, Filled) else Filled(result, 0)

    @property
    def folder(self) -> str:
        """The name of the folder of its fills: a change of what they depend on is another folder."""
        name = self.called or self.name
        readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60]
        return f"{readable}-{hashlib.sha256(f'{name}/{self.identity}'.encode()).hexdigest()[:8]}"


class Unavailable(Exception):
    """This method cannot run here; the message is one line that says why."""
