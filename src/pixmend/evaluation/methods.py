"""All methods there are, by the words of the command line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pixmend.errors import OptionError
from pixmend.evaluation.baselines import BASELINES
from pixmend.evaluation.foreign import onnx, outside_command, torchscript
from pixmend.evaluation.method import Method, Unavailable
from pixmend.evaluation.models import UNTOLD, told, untold

OURS = "pixmend"
WORDS = (*BASELINES, OURS, *UNTOLD)
DEFAULT = (*BASELINES, OURS)


@dataclass(frozen=True)
class Asked:
    """What the methods are made from."""

    models: Sequence[Path | None] = (None,)  # None is the model that ships with pixmend
    plain: Path | None = None  # for put-back and RePaint; without, the first of `models`
    samplers: Sequence[str] = ()  # in the place of each model's own
    calls: Sequence[int] = ()  # beside each model's own
    qualities: Sequence[str] = ()  # beside "balanced"
    commands: Sequence[str] = ()
    torchscripts: Sequence[Path] = ()
    onnx: Sequence[Path] = ()
    device: str | None = None


def choose_methods(words: Sequence[str] = DEFAULT, asked: Asked | None = None) -> tuple[list[Method], list[str]]:
    """The methods of these words, and of all commands and files that are asked for; and why others are left out.

    Raises OptionError for an unknown word, and what the files raise.
    """
    asked = asked or Asked()
    makers: list[Callable[[], Method]] = []
    for word in WORDS if "all" in words else words:
        if word in BASELINES:
            makers.append(BASELINES[word])
        elif word in UNTOLD:
            file = asked.plain or asked.models[0]
            makers.append(partial(untold, file, word, asked.device))
        elif word == OURS:
            makers += _ours(asked)
        else:
            raise OptionError(f"method {word!r} is not known; choose of {', '.join(WORDS)}, or all")
    makers += [partial(outside_command, template) for template in asked.commands]
    makers += [partial(torchscript, file, asked.device) for file in asked.torchscripts]
    makers += [partial(onnx, file) for file in asked.onnx]
    return _made(makers)


def _ours(asked: Asked) -> list[Callable[[], Method]]:
    """Every model with its own settings, and with every sampler, number of calls and quality that is asked for."""
    makers: list[Callable[[], Method]] = []
    for file in asked.models:
        for sampler in asked.samplers or (None,):
            makers += [partial(told, file, sampler, steps, asked.device) for steps in (None, *asked.calls)]
        makers += [partial(told, file, device=asked.device, quality=quality) for quality in asked.qualities]
    return makers


def _made(makers: Sequence[Callable[[], Method]]) -> tuple[list[Method], list[str]]:
    methods: dict[str, Method] = {}
    notes = []
    for make in makers:
        try:
            method = make()
        except Unavailable as missing:
            notes.append(str(missing))
            continue
        if method.folder in methods:  # asked for twice, as a model's own settings are among those listed
            continue
        methods[method.folder] = method
    return _with_names_of_their_own(list(methods.values())), list(dict.fromkeys(notes))


def _with_names_of_their_own(methods: list[Method]) -> list[Method]:
    """The methods; of two with one name, such as two files with the name of `model.safetensors`, a hash tells which."""
    names = [method.name for method in methods]

    def named(method: Method) -> Method:
        if names.count(method.name) == 1:
            return method
        told = f" [{hashlib.sha256(method.identity.encode()).hexdigest()[:4]}]"
        series = method.series and method.series + told
        return replace(method, name=method.name + told, series=series, called=method.name)

    return [named(method) for method in methods]
