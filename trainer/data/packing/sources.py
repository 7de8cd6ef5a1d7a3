"""What is packed: a folder of ``.npz`` files, an archive of them, or bottom-up attention's ``.tsv``."""

import binascii
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model_space.errors import InputError, one_line
from trainer.data.features.folder import feature_files, image_id_of, read_header
from trainer.data.features.names import ImageId
from trainer.data.features.npz import MCAN, ImageFeatures, NpzForm, image_features, read_npz

READERS, AHEAD, TOGETHER = 2, 4, 16
"""Threads, tasks ahead of what is written, and images that one task reads."""
SAMPLE = 32
"""Files of a folder by whose sizes that of the packed file is estimated."""
COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
"""The columns of bottom-up attention's ``.tsv``."""

IsPacked = Callable[[ImageId, int], bool]
"""Says whether an image is packed already, from its id and its stamp."""


class Entry(NamedTuple):
    """An image of a source."""

    where: str
    """Where the image is, for error messages."""
    image_id: ImageId
    stamp: int
    """A number that differs if the image has changed."""
    end: int
    """The bytes of the source up to the end of this image."""
    read: Callable[[], ImageFeatures] | None
    """Reads the image; None if it is packed already."""


def read_images(
    source: Path, is_packed: IsPacked, form: NpzForm = MCAN
) -> Iterator[tuple[Entry, ImageFeatures | None]]:
    """Reads all images of a source that are not packed yet, always in the same order, from ``.npz`` files of this form.

    Threads read the next images meanwhile, several images in one task: a task for each would cost as much as reading.

    Raises:
        InputError: If the source or one of its images is wrong.
    """
    entries = _entries(source, is_packed, form)
    pool = ThreadPoolExecutor(READERS)
    waiting: deque[tuple[list[Entry], Future]] = deque()
    try:
        while portion := list(islice(entries, TOGETHER)):
            waiting.append((portion, pool.submit(_read, portion)))
            if len(waiting) > AHEAD:
                yield from _results(*waiting.popleft())
        while waiting:
            yield from _results(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def source_bytes(source: Path) -> int:
    """Returns the size of a source in bytes."""
    if source.is_dir():
        return sum(path.stat().st_size for path in feature_files(source).values())
    return source.stat().st_size


def estimated_bytes(source: Path, total: int, form: NpzForm) -> float:
    """Returns about how many bytes a source of so many bytes takes when it is packed."""
    if source.is_dir():
        files = list(feature_files(source).values())
        files = files[:: max(1, len(files) // SAMPLE)]
        headers = [read_header(path, form) for path in files]
        packed = sum(2 * header.regions * header.feature_size for header in headers)
        return total * packed / sum(path.stat().st_size for path in files)
    # A table has float32 in base64; an archive has float32, and numbers that hardly compress.
    return total * (3 / 8 if source.suffix == ".tsv" else 1 / 2)


def _read(entries: list[Entry]) -> list[ImageFeatures | InputError | None]:
    """Reads entries up to the first that is wrong."""
    images: list[ImageFeatures | InputError | None] = []
    for entry in entries:
        try:
            images.append(entry.read() if entry.read else None)
        except InputError as error:
            return [*images, error]
    return images


def _results(entries: list[Entry], images: Future) -> Iterator[tuple[Entry, ImageFeatures | None]]:
    for entry, image in zip(entries, images.result()):  # The images may be fewer: then the last one is an error.
        if isinstance(image, InputError):
            raise image
        yield entry, image


def _entries(source: Path, is_packed: IsPacked, form: NpzForm) -> Iterator[Entry]:
    if source.is_dir():
        return _of_folder(source, is_packed, form)
    return _of_tsv(source, is_packed) if source.suffix == ".tsv" else _of_tar(source, is_packed, form)


def _of_folder(folder: Path, is_packed: IsPacked, form: NpzForm) -> Iterator[Entry]:
    end = 0
    for image_id, path in feature_files(folder).items():
        stat = path.stat()
        stamp, end = _stamp(path.name, stat.st_size, stat.st_mtime_ns), end + stat.st_size
        read = None if is_packed(image_id, stamp) else partial(read_npz, path, form=form)
        yield Entry(str(path), image_id, stamp, end, read)


def _of_tar(path: Path, is_packed: IsPacked, form: NpzForm) -> Iterator[Entry]:
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # Otherwise tarfile would keep all members in memory.
                    if not member.isfile() or (image_id := image_id_of(member.name.rpartition("/")[2])) is None:
                        continue
                    where = f"{path}: {member.name}"
                    stamp = _stamp(member.name, member.size, member.mtime)
                    read = None
                    if not is_packed(image_id, stamp) and (content := archive.extractfile(member)):
                        read = partial(read_npz, content.read(), where, form)
                    yield Entry(where, image_id, stamp, file.tell(), read)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise InputError(f"{path}: broken or cut short: {one_line(error)}") from None


def _of_tsv(path: Path, is_packed: IsPacked) -> Iterator[Entry]:
    """Splits lines at tabs: nothing in these files is quoted, and the csv module refuses fields as long as theirs."""
    end = 0
    with path.open("rb") as file:
        for number, line in zip(count(1), file):
            end += len(line)
            where = f"{path}: line {number}"
            cells = line.rstrip(b"\r\n").split(b"\t")
            if len(cells) != len(COLUMNS):
                raise InputError(f"{where}: {len(cells)} columns, expected {', '.join(COLUMNS)}")
            if not cells[0].isdigit():
                raise InputError(f"{where}: image_id is {cells[0][:20].decode(errors='replace')!r}, expected a number")
            image_id, stamp = int(cells[0]), _stamp(number, len(line))
            read = None if is_packed(image_id, stamp) else partial(_parse_line, cells, where)
            yield Entry(where, image_id, stamp, end, read)


def _parse_line(cells: list[bytes], where: str) -> ImageFeatures:
    try:
        width, height, regions = (np.array(float(cell)) for cell in cells[1:4])
        boxes, features = (np.frombuffer(binascii.a2b_base64(cell), np.float32) for cell in cells[4:])
        x, bbox = features.reshape(int(regions), -1).T, boxes.reshape(int(regions), -1)
    except (ValueError, OverflowError) as error:  # An error of binascii is a ValueError.
        raise InputError(f"{where}: not of numbers and float32 in base64: {one_line(error)}") from None
    return image_features(x, bbox, width, height, where)


def _stamp(*what: str | float) -> int:
    return zlib.crc32(repr(what).encode())
