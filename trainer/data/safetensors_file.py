"""Safetensors files (https://huggingface.co/docs/safetensors): the header of one to be written, and one opened."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from model_space.errors import InputError, one_line

DTYPES = {"uint8": "U8", "float16": "F16", "float32": "F32", "int64": "I64"}


@contextmanager
def open_safetensors(path: Path, what: str) -> Iterator[safe_open]:
    """Opens a safetensors file, whose tensors are mapped into memory.

    Args:
        path: The file.
        what: What the file should hold, for the error message, such as ``"predictions"``.

    Raises:
        InputError: If the file cannot be read, is cut short or is in another form.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: {what} cannot be read: no such file") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: broken, or not a file of {what}: {one_line(error)}") from None


def header(arrays: Mapping[str, tuple[str, Sequence[int]]], metadata: Mapping[str, str], size: int = 0) -> bytes:
    """Returns the header of a safetensors file in which arrays stand one behind the other.

    Args:
        arrays: The name of each array, with its type, such as ``"float16"``, and its shape.
        metadata: Text by name.
        size: The number of bytes that the header takes at least; it is padded with spaces.
    """
    content: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in arrays.items():
        start, end = end, end + np.dtype(dtype).itemsize * math.prod(shape)
        content[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(content).encode()
    text = text.ljust(max(size - 8, len(text) + -len(text) % 8))
    return len(text).to_bytes(8, "little") + text


def data_offset(descriptor: int) -> int:
    """Returns the offset in bytes at which the data of an open safetensors file begin, behind its header."""
    return 8 + int.from_bytes(os.pread(descriptor, 8, 0), "little")
