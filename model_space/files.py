"""How this package writes files, whole or not at all, and how it reads the text, JSON and YAML files of users."""

import fcntl
import gzip
import json
import os
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO, cast

import yaml

from model_space.errors import InputError

GZIP = b"\x1f\x8b"
"""The bytes with which a file begins that gzip has compressed."""


def partial_path(path: Path) -> Path:
    """Returns where a file is written before it is whole: beside it, ``NAME.partial``.

    The name is the same for every process, so that the next writer overwrites what a killed one left.
    """
    return path.with_name(f"{path.name}.partial")


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Makes a file appear whole or not at all.

    The block writes to the path that it is given (see :func:`partial_path`). When the block ends, that file is put on
    the disk and takes the place of ``path``; when it raises an error, the file is removed and ``path`` stays as it was.
    Processes that write the same file take turns.

    Args:
        path: The file to write. Missing folders are made.

    Raises:
        InputError: If the operating system refuses.

    Example:
        >>> with write_whole(Path("answers.txt")) as partial:
        ...     _ = partial.write_text("yes")
        >>> [file.name for file in Path().glob("answers*")]
        ['answers.txt']
    """
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_alone(partial) as file:
            try:
                file.truncate(0)
                yield partial
                os.fsync(file.fileno())
                partial.replace(path)
            except BaseException:
                with suppress(OSError):
                    partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


@contextmanager
def _open_alone(partial: Path) -> Iterator[IO]:
    """Opens a partial file, and first waits until no other process is writing it."""
    while True:
        with open(partial, "ab") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, partial):  # Otherwise the other process has put this file in its place.
                yield file
                return


def _is_at(file: IO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def lock(file: IO) -> bool:
    """Locks an open file until it is closed or its process ends; returns whether no other process has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks a folder for the block, and first waits until no other process has locked it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def write_whole_folder(folder: Path) -> Iterator[Path]:
    """Makes a folder appear whole or not at all.

    The block writes into the folder that it is given (see :func:`partial_path`). When the block ends, that folder takes
    the place of ``folder``; when it raises an error, it is removed. Processes that write into one folder take turns.

    Args:
        folder: The folder to make, which is not there yet or is empty. Missing folders above it are made.

    Raises:
        InputError: There is something in the folder, or the operating system refuses.
    """
    refuse_used(folder)
    path = folder.resolve()  # also where it is called `.`
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent), new_folder(path) as partial:
            yield partial
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Gives a folder that takes the place of ``path`` when the block ends, and is removed when it raises an error.

    Only one process may be in such a block for a path: the caller holds a lock.
    """
    partial = partial_path(path)
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
    partial.mkdir()
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def refuse_used(folder: Path) -> None:
    """Refuses a folder in which there is something, or that cannot be made.

    Raises:
        InputError: It is so.
    """
    try:
        first = min((each.name for each in folder.iterdir()), default=None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from None
    if first is not None:
        raise InputError(f"{folder}: holds something already ('{first}'): name another folder, or delete it")


def write_text(path: Path, text: str) -> None:
    """Writes a text file as UTF-8, whole or not at all.

    Raises:
        InputError: If the file cannot be written.
    """
    with write_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_writable(path: Path) -> None:
    """Checks that a file can be written, before hours are spent on computing its content.

    Raises:
        InputError: If no file can be made there.
    """
    if path.is_dir():
        raise InputError(f"{path}: cannot be written: is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def open_text(path: Path) -> TextIO:
    """Opens a text file in UTF-8, with a byte order mark or without, whether or not it is compressed by gzip."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    return cast(TextIO, (gzip.open if compressed else open)(path, "rt", encoding="utf-8-sig"))


def read_text(path: Path, what: str = "the file") -> str:
    """Reads a text file in UTF-8 that a user gives, as :func:`open_text` opens it.

    Args:
        path: The file.
        what: What the file should be, for the error message, such as ``"a file of questions"``.

    Raises:
        InputError: If the file cannot be read or is not UTF-8.
    """
    try:
        with open_text(path) as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {what} cannot be read: not UTF-8 ({error})") from None
    except (OSError, EOFError, zlib.error) as error:  # the latter two of gzip
        raise InputError(f"{path}: {what} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_json(path: Path, what: str, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """Reads a JSON file that a user gives.

    Args:
        path: The file.
        what: What the file should be, for the error message, such as ``"a file of questions"``.
        object_hook: Replaces each JSON object by what it returns, as in :func:`json.loads`.

    Raises:
        InputError: If the file cannot be read or is not JSON in UTF-8.
    """
    return parse_json(read_text(path, what), str(path), what, object_hook)


def parse_json(text: str, where: str, what: str, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """Parses JSON text.

    Args:
        text: The JSON text.
        where: Names the origin of the text in the error message.
        what: What the text should be, for the error message, such as ``"an architecture"``.
        object_hook: Replaces each JSON object by what it returns, as in :func:`json.loads`.

    Raises:
        InputError: If the text is not JSON, is nested too deeply to be parsed, or, without an `object_hook`, has a key
            twice in one object.
    """
    twice: list[str] = []

    def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            twice.append(Counter(key for key, _ in pairs).most_common(1)[0][0])
        return content

    try:
        if object_hook is not None:  # of files of millions of objects, where one more call for each would be felt
            return json.loads(text, object_hook=object_hook)
        content = json.loads(text, object_pairs_hook=each_key_once)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}, line {error.lineno}, column {error.colno}: not {what}: "
            f"the JSON ends or breaks here ({error.msg})"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of too many digits, or too many brackets
        raise InputError(f"{where}: not {what}: JSON that cannot be read ({error})") from None
    if twice:
        with suppress(yaml.YAMLError, RecursionError):  # YAML's parser reads nearly all JSON, and knows the lines
            refuse_key_twice(yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader), where)
        raise InputError(f"{where}: the key '{twice[0]}' stands twice in one object")
    return content


def parse_yaml(text: str, where: str) -> tuple[Any, yaml.Node | None]:
    """Parses YAML text.

    Args:
        text: The YAML text.
        where: Names the origin of the text in the error message.

    Returns:
        The content, and the same content with the line of every key; nothing for an empty text.

    Raises:
        InputError: If the text is not YAML, is nested too deeply to be parsed, or has a key twice in one section.
    """
    try:
        content, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{where}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, RecursionError) as error:  # no such date, or too many brackets
        raise InputError(f"{where}: YAML that cannot be read ({error})") from None
    refuse_key_twice(node, where)
    return content, node


def refuse_key_twice(node: yaml.Node | None, where: str) -> None:
    """Refuses YAML in which a key stands twice in one section: of two values one would be lost.

    Raises:
        InputError: One does. The error names both lines.
    """
    to_do, done = [node], set()
    while to_do:
        node = to_do.pop()
        if id(node) in done:  # an alias: the same node once more, or even a part of itself
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            to_do += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                line, name = key.start_mark.line + 1, str(key.value)
                if name in lines:
                    raise InputError(f"{where}, line {line}: the key '{name}' is in line {lines[name]} already")
                lines[name] = line
                to_do.append(value)
