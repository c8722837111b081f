"""Which pictures a folder holds, which mask belongs to each, and where its result goes."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pixmend.errors import DataError, FileMissingError, OutputError

OURS = (".pixmend", "journal.jsonl")  # in an output folder: what is ours; and in that, what tells of the results
BESIDE = "_mask"  # what the name of a mask may end in, and does where masks lie among the pictures


@dataclass(frozen=True)
class Task:
    """One picture of a folder, and what is to become of it."""

    name: str  # relative to the folder, with "/" between its parts
    picture: Path
    mask: Path | None  # None: the picture's own transparency, or work that knows no masks
    output: Path


@dataclass
class Found:
    """What a folder holds."""

    tasks: list[Task] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # name of a picture or folder -> why nothing is done with it
    notes: list[str] = field(default_factory=list)


def find(folder: Path, output: Path, masks: Path | None = None) -> Found:
    """Pair every picture in `folder`, and in the folders in it, with its mask and its output; sorted by name.

    masks: a folder that holds a mask for each picture, by its name (see `Masks`); or a file, one mask for all; None
    leaves it to the picture. The output has the picture's name in the folder `output`. Hidden files, `output`, `masks`
    and results of earlier runs in folders within are not taken for pictures. Links are followed as long as they lead to
    files in the folder.
    Raises FileMissingError for folders that are none, DataError for those that cannot be listed or hold no picture,
    and OutputError for an output folder that would be the source's.
    """
    for given in (folder, masks):
        if given is not None and same_place(given, output):
            raise OutputError(f"the output {output} is the folder {given} itself; choose another folder")
    beside = masks is not None and same_place(masks, folder)
    apart = [output] if masks is None or beside else [output, masks]
    listing = _list(folder, apart)
    files = [name for name in listing.files if not (beside and _is_mask(name))]
    if not files:
        reasons = [*listing.refused.values(), *listing.notes]
        why = f" ({reasons[0]})" if reasons else ""
        raise DataError(f"{folder} holds no picture{why}; give a folder of pictures")
    index = Masks(folder if beside else masks, files, beside, output) if masks and os.path.isdir(masks) else None
    found = Found(refused=dict(listing.refused), notes=list(listing.notes))
    for name in files:
        try:
            mask = index.of(name) if index else masks
            _check_inside(folder, name)
            target = output / name
            if not _is_inside(target.parent, output):
                raise OutputError(f"a link leads from its place in {output} out of that folder; remove the link")
            for place in (output / above for above in Path(name).parents):
                if os.path.exists(place) and not os.path.isdir(place):
                    raise OutputError(f"{place} is a file where its folder has to be; move or remove the file")
            found.tasks.append(Task(name, folder / name, mask, target))
        except (FileMissingError, OutputError) as error:
            found.refused[name] = str(error)
    found.notes += index.notes if index else []
    if index and (idle := index.idle()):
        found.notes.append(f"masks in {masks} that belong to no picture: {len(idle)}, such as {idle[0]}")
    return found


class Masks:
    """The masks in a folder, by the names of the pictures that they may be for.

    The mask of sub/a.jpg is, in the same subfolder, the file of the same name, a.jpg; else a.jpg.EXT or a.jpg_mask.EXT;
    else, as long as no other picture there is called "a" as well, a.EXT or a_mask.EXT, with any extension that pictures
    have. Where the masks lie beside the pictures, only names that end in _mask are masks. Extensions are compared
    without regard to capitals, and all names without regard to how Unicode composes letters.
    """

    def __init__(self, folder: Path, pictures: Iterable[str], beside: bool, output: Path) -> None:
        self.folder = folder
        self._named: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        self._used: set[str] = set()
        self._pictures = Counter(_folded(os.path.splitext(name)[0]) for name in pictures)
        listing = _list(folder, [output])
        self.notes = [] if beside else [*listing.refused.values(), *listing.notes]  # told with the pictures, if beside
        self._all = [name for name in listing.files if not beside or _is_mask(name)]
        for name in self._all:
            stem = os.path.splitext(name)[0]
            if not beside:
                self._named.setdefault(_folded(name), []).append(name)
            self._stems.setdefault(_folded(stem), []).append(name)
            if _is_mask(name):
                self._stems.setdefault(_folded(stem.removesuffix(BESIDE)), []).append(name)

    def of(self, name: str) -> Path:
        """The mask for a picture; raises FileMissingError, with the reason, where there is not exactly one."""
        full, stem = _folded(name), _folded(os.path.splitext(name)[0])
        alone = self._pictures[stem] == 1
        for masks in (self._named.get(full, []), self._stems.get(full, []), self._stems.get(stem, []) if alone else []):
            self._used.update(masks)
            if len(masks) > 1:
                raise FileMissingError(f"more than one mask fits it: {', '.join(sorted(masks))}; leave one of them")
            if masks:
                _check_inside(self.folder, masks[0])
                return self.folder / masks[0]
        if not alone and stem in self._stems:
            raise FileMissingError(
                f"other pictures beside it have its name with another extension; name its mask "
                f"{os.path.basename(name)}{BESIDE}.png, so that it is clear whose it is"
            )
        raise FileMissingError(f"no mask in {self.folder} has its name; add one, or take the picture out")

    def idle(self) -> list[str]:
        """The masks that no picture was paired with."""
        return [name for name in self._all if name not in self._used]


def same_place(a: Path, b: Path) -> bool:
    """Whether two paths lead to the same place, be it there or not.

    What is there is compared by what the system knows it by: one folder may have two names where capitals do not
    matter, or where it is mounted twice.
    """
    try:
        return os.path.samefile(a, b)
    except OSError:  # one of them is not there
        a_real, b_real = (os.path.normcase(os.path.realpath(path)) for path in (a, b))
        return a_real == b_real


@dataclass
class _Listing:
    files: list[str] = field(default_factory=list)  # names relative to the folder, sorted
    refused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _list(folder: Path, apart: Collection[Path]) -> _Listing:
    """The files in a folder that are named as pictures, but for hidden ones and what is to be left `apart`."""
    if not os.path.isdir(folder):
        raise FileMissingError(f"{folder} is not a folder; give a folder of pictures")
    from pixmend.images import picture_suffixes

    listing, suffixes = _Listing(), picture_suffixes()
    earlier: list[str] = []

    def failed(error: OSError) -> None:
        place = Path(error.filename or folder)
        name = place.relative_to(folder).as_posix() if place != folder else "."
        listing.refused[name] = f"{place} cannot be listed ({error.strerror}); see to its permissions"

    for root, folders, names in os.walk(folder, onerror=failed):
        here = Path(root)
        linked = [name for name in folders if os.path.islink(here / name)]
        listing.notes += [f"{here / name} is a link to a folder, which is not followed" for name in sorted(linked)]
        kept = list(_kept(here, set(folders) - set(linked), apart))
        folders[:] = [name for name in kept if not os.path.isfile(here.joinpath(name, *OURS))]
        earlier += [str(here / name) for name in set(kept) - set(folders)]
        files = (name for name in names if os.path.splitext(name)[1].lower() in suffixes)
        listing.files += [(here / name).relative_to(folder).as_posix() for name in _kept(here, files, apart)]
    listing.files.sort()
    if earlier:
        listing.notes.append(f"folders with results of earlier runs, left out: {len(earlier)}, such as {min(earlier)}")
    return listing


def _kept(folder: Path, names: Iterable[str], apart: Collection[Path]) -> Iterator[str]:
    for name in names:
        if not name.startswith(".") and not any(same_place(folder / name, path) for path in apart):
            yield name


def _check_inside(folder: Path, name: str) -> None:
    """Raise FileMissingError unless a file in a folder is a file, and no link leads out of the folder."""
    path = folder / name
    if not _is_inside(path, folder):
        raise FileMissingError(f"{path} is a link that leads out of {folder}; copy the file there")
    if not os.path.isfile(path):
        raise FileMissingError(f"{path} is no file, or a link to none; take it out of the folder")


def _is_inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _is_mask(name: str) -> bool:
    return os.path.splitext(name)[0].endswith(BESIDE)


def _folded(name: str) -> str:
    """A name for comparing: letters composed in one way, what comes after the last dot in small letters."""
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))
    return stem + suffix.lower()
