"""Reads a pickle as data: plain values and NumPy arrays, and nothing is run.

A pickle is a program for a small machine, which may name any function of any module and have it called. So
:class:`pickle.Unpickler` is not used here, not even one that refuses most names: it would still reserve whatever memory
a pickle declares. This machine knows only the instructions that make plain values. It never looks a name up: of the few
names that NumPy writes for an array it knows what they mean, and any other is an error.
"""

import math
import pickletools
import re
import reprlib
from typing import Any, Literal

import numpy as np

from model_space.errors import InputError, one_line

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
"""Instructions whose argument is a value."""
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
"""Instructions that take so many values for a tuple."""
DTYPE = re.compile(r"[fiu][1248]|b1|O8?")
"""The types of arrays that are read."""
UNFINISHED = object()
"""An array before its content is known."""


class _Name(str):
    """A name of a module's that stands in a pickle; nothing is looked up by it."""


ENCODE, DTYPE_OF, NDARRAY = _Name("_codecs.encode"), _Name("numpy.dtype"), _Name("numpy.ndarray")
RECONSTRUCT, SCALAR = _Name("numpy.core.multiarray._reconstruct"), _Name("numpy.core.multiarray.scalar")
FROM_BUFFER = _Name("numpy.core.numeric._frombuffer")
KNOWN = {ENCODE, DTYPE_OF, NDARRAY, RECONSTRUCT, SCALAR, FROM_BUFFER}


class _NotPlain(Exception):
    """Something that is neither a plain value nor an array."""


def read_pickle(content: bytes, where: str) -> Any:
    """Returns what a pickle holds: None, numbers, text, bytes, lists, tuples, dicts and NumPy arrays of numbers.

    An array () of one object, as :func:`numpy.save` makes of a dict, is that object.

    Args:
        content: The pickle, of any protocol.
        where: Names it in error messages.

    Raises:
        InputError: If the pickle is broken, or holds anything else.

    Example:
        >>> import pickle
        >>> read_pickle(pickle.dumps({9: 0, 25: 1}), "train36_imgid2idx.pkl")
        {9: 0, 25: 1}
        >>> read_pickle(pickle.dumps(print), "hostile.pkl")
        Traceback (most recent call last):
        model_space.errors.InputError: hostile.pkl: a pickle with builtins.print, expected plain values and NumPy ...
    """
    try:
        return _Machine().run(content)
    except _NotPlain as error:
        raise InputError(
            f"{where}: a pickle with {error}, expected plain values and NumPy arrays, which is all that is read of a "
            "pickle: nothing in it is run"
        ) from None
    except (ValueError, TypeError, LookupError, OverflowError, MemoryError) as error:
        raise InputError(f"{where}: a broken pickle: {one_line(error)}") from None


class _Machine:
    """The machine that a pickle is a program for, as far as plain values need it."""

    def __init__(self) -> None:
        # A value lies in a list of its own, which memo and stack share: an array is finished after it is in the memo.
        self._stack: list[list[Any]] = []
        self._below: list[list[list[Any]]] = []
        """The stacks below each mark."""
        self._memo: dict[int, list[Any]] = {}

    def run(self, content: bytes) -> Any:
        """Returns the value that is left at the end."""
        argument: Any
        for opcode, argument, _ in pickletools.genops(content):
            match opcode.name:
                case name if name in VALUES:
                    if isinstance(argument, int) and argument.bit_length() > 64:
                        raise ValueError("a number of more than 64 bits")
                    self._push(argument)
                case name if name in CONSTANTS:
                    self._push(CONSTANTS[name])
                case name if name in TUPLES:
                    self._push(tuple(reversed([self._pop() for _ in range(TUPLES[name])])))
                case "EMPTY_LIST":
                    self._push([])
                case "EMPTY_DICT":
                    self._push({})
                case "MARK":
                    self._below.append(self._stack)
                    self._stack = []
                case "TUPLE":
                    self._push(tuple(self._above_mark()))
                case "LIST":
                    self._push(self._above_mark())
                case "DICT":
                    values = self._above_mark()
                    self._push({})
                    self._set(values)
                case "APPEND":
                    self._append([self._pop()])
                case "APPENDS":
                    self._append(self._above_mark())
                case "SETITEM":
                    value, key = self._pop(), self._pop()
                    self._set([key, value])
                case "SETITEMS":
                    self._set(self._above_mark())
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    self._memo[argument] = self._stack[-1]
                case "MEMOIZE":
                    self._memo[len(self._memo)] = self._stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    self._stack.append(self._memo[argument])
                case "GLOBAL" | "INST":
                    self._push(_known(argument.replace(" ", ".")))
                case "STACK_GLOBAL":
                    name, module = self._pop(), self._pop()
                    if type(name) is not str or type(module) is not str:
                        raise TypeError("a name that is no text")
                    self._push(_known(f"{module}.{name}"))
                case "REDUCE":
                    arguments, name = self._pop(), self._pop()
                    self._push(_called(name, arguments))
                case "BUILD":
                    state = self._pop()
                    self._stack[-1][0] = _built(self._stack[-1][0], state)
                case "PROTO" | "FRAME" | "STOP":
                    pass
                case other:
                    raise _NotPlain(f"the instruction {other}")
        return self._pop()

    def _push(self, value: Any) -> None:
        self._stack.append([value])

    def _pop(self) -> Any:
        return self._stack.pop()[0]

    def _above_mark(self) -> list[Any]:
        values = [cell[0] for cell in self._stack]
        self._stack = self._below.pop()
        return values

    def _append(self, values: list[Any]) -> None:
        if type(into := self._stack[-1][0]) is not list:
            raise TypeError("what is added to is no list")
        into += values

    def _set(self, values: list[Any]) -> None:
        if type(into := self._stack[-1][0]) is not dict or len(values) % 2:
            raise TypeError("what is set is no dict")
        for key, value in zip(values[::2], values[1::2]):
            if type(key) not in (str, bytes, int, float):  # The hash of tuples in tuples can end the process.
                raise TypeError("a key is neither text nor a number")
            if key in into:
                raise ValueError(f"the key {reprlib.repr(key)} twice in one dict")
            into[key] = value


def _known(name: str) -> _Name:
    known = _Name(name.replace("numpy._core.", "numpy.core.", 1))  # NumPy 2 has another name for the same module.
    if known not in KNOWN:
        raise _NotPlain(name[:100])
    return known


def _called(name: Any, arguments: Any) -> Any:
    """Returns what the function of this name would return of these arguments."""
    match name if isinstance(name, _Name) else None, arguments:
        case "_codecs.encode", (str() as text, "latin1"):
            return text.encode("latin1")
        case "numpy.dtype", (str() as code, *_):
            if not DTYPE.fullmatch(code):
                raise _NotPlain(f"an array of {code[:100]}")
            return np.dtype(code)
        case "numpy.core.multiarray._reconstruct", (_Name() as kind, (0,), _) if kind == NDARRAY:
            return UNFINISHED
        case "numpy.core.multiarray.scalar", (np.dtype() as dtype, bytes() as content):
            return _array((), dtype, "C", content)[()]
        case "numpy.core.numeric._frombuffer", (content, np.dtype() as dtype, tuple() as shape, "C" | "F" as order):
            return _array(shape, dtype, order, content)
    raise TypeError("a call of no function, or of one with other arguments than NumPy gives it")


def _built(value: Any, state: Any) -> Any:
    """Returns a type or an array with the state that is kept of it."""
    match value, state:
        case np.dtype(), (3 | 4, "<" | ">" | "|" | "=" as order, None, None, None, *_):
            return value.newbyteorder(order)
        case _, (1, tuple() as shape, np.dtype() as dtype, fortran, content) if value is UNFINISHED:
            return _array(shape, dtype, "F" if fortran else "C", content)
    raise TypeError("the state of what is no array")


def _array(shape: tuple, dtype: np.dtype, order: Literal["C", "F"], content: Any) -> Any:
    if dtype.kind == "O":
        if shape or type(content) is not list or len(content) != 1:
            raise _NotPlain("an array of objects")
        return content[0]
    if type(content) not in (bytes, bytearray) or not all(type(each) is int and each >= 0 for each in shape):
        raise TypeError("an array whose shape or content is none")
    if (size := math.prod(shape) * dtype.itemsize) != len(content):
        raise ValueError(f"an array of {len(content)} bytes, expected {size}")
    return np.ndarray(shape, dtype, content, order=order)
