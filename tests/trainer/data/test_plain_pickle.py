"""Pickles are read as data: plain values and arrays, as Python and NumPy write them, and nothing is run."""

import builtins
import collections
import io
import os
import pickle
import pickletools
import random
import struct
import tracemalloc

import numpy as np
import pytest

from model_space.errors import InputError
from trainer.data.packing.plain_pickle import read_pickle

ARRAYS = {
    "float32": np.arange(6, dtype="f4").reshape(2, 3),
    "columns first": np.asfortranarray(np.arange(6, dtype="f8").reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "float16": np.ones((1, 2, 1, 2), "f2"),
    "bool": np.array([True, False]),
    "no region": np.zeros((0, 4), "f4"),
    "one number": np.array(3.5),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name, protocol):
    array = ARRAYS[name]
    if array.size == 0 and protocol < 3:  # there Python has no sign for no bytes, and writes that bytes() be called
        with pytest.raises(InputError, match=r"a pickle with __builtin__.bytes, expected plain values"):
            read_pickle(pickle.dumps(array, protocol), "a.pkl")
        return
    first, second, scalar = read_pickle(pickle.dumps([array, array, np.float32(2)], protocol), "a.pkl")
    assert first.dtype == array.dtype and scalar == 2 and isinstance(scalar, np.float32)
    np.testing.assert_array_equal(first, array, strict=True)
    np.testing.assert_array_equal(second, array, strict=True)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values(protocol):
    again = ["ä\n", b"\x00\xff", 2**63, -1, 1.5]
    value = {"a": again, 3: (), "b": (1,), "c": (1, 2), "d": (1, 2, 3), "e": (None, True, False, 4, again), b"f": {}}
    value |= {number: -number for number in range(3000)}
    assert read_pickle(pickle.dumps(value, protocol), "a.pkl") == value


def test_names_of_older_numpy():
    for protocol in (0, 2, 3):
        content = pickle.dumps(ARRAYS["float32"], protocol)
        assert b"numpy._core." in content
        older = content.replace(b"numpy._core.", b"numpy.core.")
        np.testing.assert_array_equal(read_pickle(older, "a.pkl"), ARRAYS["float32"])


def test_the_dict_that_numpy_saves():
    np.save(file := io.BytesIO(), {"bbox": ARRAYS["float32"], "num_boxes": 2})
    assert read_pickle(file.getvalue()[128:], "a.pkl")["num_boxes"] == 2


class Reduced:
    """Is pickled as a call."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced

    def __call__(self):
        """Python pickles only calls of what can be called."""


SPOIL = "import pathlib; pathlib.Path('spoiled').touch()"
HOSTILE = {
    "os.system": (Reduced(os.system, "touch spoiled"), ".system"),
    "eval": (Reduced(eval, SPOIL), ".eval"),
    "exec": (Reduced(exec, SPOIL), ".exec"),
    "getattr": (Reduced(getattr, "text", "format"), ".getattr"),
    "a chain": (Reduced(Reduced(getattr, "text", "format"), SPOIL), ".getattr"),
    "within a dict": ({"bbox": [Reduced(exec, SPOIL)]}, ".exec"),
    "numpy.load": (Reduced(np.load, "spoiled"), "numpy.load"),
    "numpy.fromfile": (Reduced(np.memmap, "spoiled", "u1", "w+", 0, (9,)), "numpy.memmap"),
    "an object": (collections.OrderedDict(a=1), "collections.OrderedDict"),
    "text in an array": (np.array(["text"]), "an array of U4"),
    "records": (np.zeros(2, [("a", "f4")]), "an array of V4"),
    "objects in an array": (np.array([None, None]), "an array of objects"),
    "a set": ({1, 2}, ""),
}


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_run(name, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value, said = HOSTILE[name]
    with pytest.raises(InputError, match=r"a\.pkl: a pickle with ") as error:
        read_pickle(pickle.dumps(value, protocol), "a.pkl")
    assert said in str(error.value)
    assert not [*tmp_path.iterdir()]


def call(name: str, *arguments: bytes) -> bytes:
    """A call in protocol 0."""
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


LARGE = b"J\xff\xff\xff\x7f"
F4, O8 = call("numpy dtype", b"S'f4'\n"), call("numpy dtype", b"S'O8'\n")
RECONSTRUCTED = call("numpy.core.multiarray _reconstruct", b"cnumpy\nndarray\n", b"(K\x00t", b"C\x01b")
HANDMADE = {
    "a call of a known name, with another function in it": (
        call("numpy.core.multiarray _reconstruct", b"cos\nsystem\n", b"(K\x00t", b"C\x01b"),
        "os.system",
    ),
    "instance": (b"(S'touch spoiled'\nios\nsystem\n", "os.system"),
    "object": (b"(cos\nsystem\nS'touch spoiled'\no", "os.system"),
    "new object": (b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ft\x81", "the instruction NEWOBJ"),
    "attributes of a known name": (b"\x80\x02cnumpy\ndtype\n}S'newbyteorder'\ncos\nsystem\nsb", "os.system"),
    "a name below a known one": (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93", "numpy.ndarray.__class__"),
    "a name that is a list": (b"\x80\x04]]\x93", "no text"),
    "an extension": (b"\x82\x01", "EXT1"),
    "a persistent id": (b"Pspoiled\n", "PERSID"),
    "a buffer from elsewhere": (b"\x80\x05\x97", "NEXT_BUFFER"),
    "a call of a number": (b"K\x01)R", "a call of no function"),
    "a call of an array's type": (F4 + b")R", "a call of no function"),
    "encoding by another codec": (
        call("_codecs encode", b"S'spoiled'\n", b"S'rot13'\n"),
        "other arguments than NumPy gives it",
    ),
    "the state of a number": (b"K\x01(K\x01tb", "the state of what is no array"),
}
BOMBS = {
    "a long text": (b"\x8d" + struct.pack("<Q", 2**40), "only 1 remain"),
    "long bytes": (b"\x8e" + struct.pack("<Q", 2**40), "only 1 remain"),
    "a long byte array": (b"\x96" + struct.pack("<Q", 2**40), "only 1 remain"),
    "more bytes than there are": (b"\x8e" + struct.pack("<Q", 2**64 - 1), "byte count > sys.maxsize"),
    "a long frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**40), "pop from empty list"),
    "a far place in the memo": (b"]r\xff\xff\xff\xffs", "pop from empty list"),
    "a large array": (
        call("numpy.core.numeric _frombuffer", b"C\x01a", F4, b"(" + LARGE * 2 + b"t", b"S'C'\n"),
        "an array of 1 bytes, expected 18446744056529682436",
    ),
    "a large array of no bytes": (
        call("numpy.core.numeric _frombuffer", b"C\x00", F4, b"(" + LARGE + b"t", b"S'C'\n"),
        "an array of 0 bytes",
    ),
    "a large array of objects": (RECONSTRUCTED + b"(K\x01(" + LARGE + b"t" + O8 + b"\x89]tb", "an array of objects"),
    "an array that is large before its state": (
        call("numpy.core.multiarray _reconstruct", b"cnumpy\nndarray\n", b"(" + LARGE + b"t", b"C\x01b"),
        "other arguments than NumPy gives it",
    ),
    "a large number": (b"\x8b" + struct.pack("<i", 2**20) + b"\x01" * 2**20, "more than 64 bits"),
    "tuples in tuples as a key": (b"})" + b"\x85" * 200_000 + b"K\x01s", "neither text nor a number"),
    "lists in lists as a name": (
        b"\x80\x04]\x94" + b"".join(b"(h%ch%cl\x94" % (n, n) for n in range(40)) + b"]\x93",
        "no text",
    ),
    "a type of many": (call("numpy dtype", b"S'2147483647f8'\n"), "an array of 2147483647f8"),
}


@pytest.mark.parametrize("name", [*HANDMADE, *BOMBS])
def test_handmade(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, said = (HANDMADE | BOMBS)[name]
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"a\.pkl: a (broken )?pickle") as error:
            read_pickle(content + b".", "a.pkl")
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert said in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 500
    assert not [*tmp_path.iterdir()]


def test_broken_pickles():
    """Of any bytes comes a value of plain types, or one line."""
    draw = random.Random(0)
    wholes = [
        pickle.dumps({"bbox": ARRAYS["float32"], "n": 3, "l": [1, (2, "x")]}, protocol) for protocol in (0, 2, 4, 5)
    ]
    codes = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
    for number in range(3000):
        content = bytearray(wholes[number % 4])
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(len(content))
            content[place : place + draw.randrange(2)] = draw.choice([*codes, draw.randbytes(1), b""])
        content = content[: draw.choice([len(content), draw.randrange(len(content))])]
        try:
            value = read_pickle(bytes(content), "a.pkl")
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 500
        else:
            assert type(value).__module__ in ("builtins", "numpy", "trainer.data.packing.plain_pickle")


def test_no_unpickler_is_called(monkeypatch):
    def called(*arguments, **more):
        raise AssertionError

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, called)
    monkeypatch.setattr(builtins, "eval", called)
    assert read_pickle(pickle.dumps([ARRAYS["float32"]]), "a.pkl")[0].shape == (2, 3)
