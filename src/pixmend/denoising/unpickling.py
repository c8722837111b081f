"""Reading a pickle without running it: plain values and numeric arrays, and nothing else.

A pickle is a small program that may name any function of any module and call it. Here the only names it may say are
those with which NumPy writes its arrays, and even they do not reach NumPy: they are bound to the stand-ins below, which
collect a shape, a number format and bytes, and check that these fit.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

_NUMERIC = re.compile(r"[|<>=]?[biuf][1248]")
_LARGEST = 1 << 30  # values in one array
_MOST_AXES = 32
_OPERATIONS: dict[str, Any] = {operation.code: operation for operation in pickletools.opcodes}
_MOST_PARTS = 1_000_000  # an official batch has some 40,000


class RefusedPickle(ValueError):
    """The pickle is damaged, or holds something that is no plain value; the message names it."""


class _DType:
    """Stands for numpy.dtype: a number format by its name."""

    __slots__ = ("name",)

    def __init__(self, name: object, *_: object) -> None:
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
        if not isinstance(text, str) or not _NUMERIC.fullmatch(text):
            raise RefusedPickle(f"it holds an array of {_shown(text)}, which are no numbers")
        self.name = text

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        order = order.decode("ascii", "replace") if isinstance(order, bytes) else order
        if order not in ("|", "<", ">", "="):
            raise RefusedPickle(f"it holds an array with the byte order {_shown(order)}")
        self.name = order + self.name.lstrip("|<>=")


class _Array:
    """Stands for numpy.ndarray while its parts come in."""

    __slots__ = ("value",)

    def __init__(self, *_: object) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise RefusedPickle("it holds an array without shape or content")
        self.value = _array(state[4], state[2], state[1], "F" if state[3] else "C")


class _NdArray:
    """Stands for the name numpy.ndarray, which is only ever handed on."""


def _shown(value: object) -> str:
    """A value for a message. That of a tuple of two tuples of two tuples and so on would take for ever to write."""
    return repr(value)[:60] if type(value) in (str, bytes, int) else f"a {type(value).__name__.lstrip('_')}"


def _array(content: object, dtype: object, shape: object, order: object) -> NDArray[Any]:
    lengths = shape if isinstance(shape, tuple) else (shape,)
    if not isinstance(dtype, _DType) or not isinstance(content, (bytes, bytearray)):
        raise RefusedPickle("it holds an array whose content is not bytes of numbers")
    if (
        len(lengths) > _MOST_AXES
        or not all(type(n) is int and 0 <= n <= _LARGEST for n in lengths)
        or math.prod(lengths) > _LARGEST
    ):
        raise RefusedPickle(f"it holds an array of the impossible shape {', '.join(_shown(n) for n in lengths[:8])}")
    numbers = np.dtype(dtype.name)
    if len(content) != math.prod(lengths) * numbers.itemsize:
        raise RefusedPickle(f"it holds an array of {len(content)} bytes that should be {lengths} of {dtype.name}")
    return np.frombuffer(content, numbers).reshape(lengths, order="F" if order in ("F", b"F") else "C")


def _from_buffer(content: object, dtype: object, shape: object, order: object) -> _Array:
    array = _Array()
    array.value = _array(content, dtype, shape, order)
    return array


def _bytes_of(text: object, encoding: object) -> bytes:
    """How Python 3 writes bytes into pickles of protocol 2: as text in Latin 1."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise RefusedPickle("it holds bytes in an encoding that is not latin1")
    try:
        return text.encode("latin1")
    except UnicodeEncodeError as error:
        raise RefusedPickle("it holds bytes that are none") from error


_STAND_INS: dict[tuple[str, str], Any] = {("numpy", "ndarray"): _NdArray, ("numpy", "dtype"): _DType}
for _core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _Array
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _from_buffer
_STAND_INS["_codecs", "encode"] = _bytes_of


_Unpickler: Any = pickle._Unpickler  # the one in Python: the one in C takes any memory that a pickle asks for


class _PlainUnpickler(_Unpickler):  # type: ignore[misc]
    """Knows the stand-ins and no other name; and takes no keys but plain ones.

    The hash of a tuple of two tuples of two tuples and so on takes for ever, and a few bytes say it. So sets go too.
    """

    dispatch: ClassVar[dict[int, Any]] = {**_Unpickler.dispatch}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise RefusedPickle(f"it asks for {module}.{name}, which is no plain value and is refused") from None

    def load_reduce(self) -> None:
        """As it is inherited, for what may be called; of what may not, Python's own error would show the whole."""
        function, arguments = self.stack[-2:]
        if function not in _STAND_INS.values() or type(arguments) is not tuple:
            raise RefusedPickle(f"it calls a {type(function).__name__.lstrip('_')}, which is refused")
        super().load_reduce()

    def load_build(self) -> None:
        """As it is inherited, for stand-ins that take a state; to all else it would write attributes."""
        if type(self.stack[-2]) not in (_DType, _Array):
            raise RefusedPickle(f"it changes a {type(self.stack[-2]).__name__.lstrip('_')}, which is refused")
        super().load_build()

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()

    def refuse_set(self) -> None:
        raise RefusedPickle("it holds a set, which is refused")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch |= dict.fromkeys((op[0] for op in (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET)), refuse_set)


def _check_keys(keys: list[Any]) -> None:
    for key in keys:
        if type(key) not in (str, bytes, int):
            raise RefusedPickle(f"it holds a {type(key).__name__.lstrip('_')} as a dictionary's key: refused")


def load_plain(content: bytes) -> Any:
    """The value of a pickle of dictionaries, lists, tuples, texts, bytes, numbers, None, and numeric NumPy arrays.

    Texts of Python 2 come as bytes. Raises RefusedPickle for anything else, naming it, and for a damaged pickle.
    """
    try:
        _check_parts(io.BytesIO(content))
        return _finished(_PlainUnpickler(io.BytesIO(content), encoding="bytes").load(), {})
    except RefusedPickle:
        raise
    except Exception as error:  # damaged opcodes end in nearly any exception
        raise RefusedPickle(f"it is no whole pickle ({type(error).__name__})") from error


def _check_parts(stream: IO[bytes]) -> None:
    """Walk through all parts without doing what they say: a byte each may make an object, and some claim more bytes
    than there are. (`pickletools.genops` would do, but for its texts of Python 2, which have to be ASCII.)
    """
    for _ in range(_MOST_PARTS):
        operation = _OPERATIONS[stream.read(1).decode("latin1")]
        if operation.name == "STOP":
            return
        if operation.name == "STRING":
            stream.readline()
        elif operation.arg is not None:
            operation.arg.reader(stream)
    raise RefusedPickle(f"it has more than {_MOST_PARTS} parts")


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """The value with arrays in place of stand-ins; any other object is refused. `done`: what was met before, by id."""
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if type(value) not in (dict, list, tuple):
        raise RefusedPickle(f"it holds a {type(value).__name__.lstrip('_')}, which is refused")
    if id(value) not in done:  # once each: a few lists that hold each other twice would otherwise never end
        if type(value) is dict:
            done[id(value)] = {_finished(key, done): _finished(inner, done) for key, inner in value.items()}
        else:
            done[id(value)] = type(value)(_finished(inner, done) for inner in value)
    return done[id(value)]
