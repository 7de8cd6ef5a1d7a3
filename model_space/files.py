"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from model_space.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside ``path``, with its suffix, to write to: once the block is left, that file takes the place of
    ``path``; if by an error, it is removed. Folders are made.

    Raises:
        InputError: the operating system refuses; the reason is in it.
    """
    partial = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuses before hours are spent on what will be written.

    Raises:
        InputError: no file can be made there.
    """
    if path.is_dir():
        raise InputError(f"{path}: cannot be written: is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _beside(path).touch()
        _beside(path).unlink()
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def _beside(path: Path) -> Path:
    return path.with_name(f".{os.getpid()}.{path.name}")
