"""Packs the features of a folder or an archive into one file that is mapped into memory.

The file is safetensors: mapped without a copy, no code in it, and its data can be written before its head is known.
What is in it: :func:`trainer.data.features.packed_arrays`; the head keeps a CRC-32 of every array.

While it is made there are two files beside it, ``X.safetensors.partial`` and ``X.safetensors.journal``. The first has
room for the head and then the regions, image by image; the second says which images these are. Regions are on the disk
before the journal names them, so whatever moment ends the process, the next one goes on behind the last image named,
and ends with the same bytes. The file gets its name when it is whole.
"""

import binascii
import fcntl
import io
import json
import math
import os
import shutil
import struct
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from model_space.errors import InputError
from trainer.data.features import (
    ARCHIVES,
    IN_HALF,
    PACKED_FORMAT,
    Image,
    checked,
    feature_files,
    image_of,
    one_line,
    packed_arrays,
    packed_checksums,
    packed_path,
    read_head,
    read_npz,
    refuse_unknown,
)

HEAD_SIZE = 4096  # bytes for the head, so that the regions begin on a page
SYNC = 2**28  # bytes of regions between two times that they are put on the disk: what a kill costs at most
READERS, AHEAD, TOGETHER = 2, 4, 16  # threads, and tasks ahead of what is written, each to read so many images
SAMPLE = 32  # files by whose sizes that of the whole is estimated
SPARE = 2**26  # bytes that shall stay free
RECORD = struct.Struct("<qIIIffI")  # image id, stamp, regions, features a region, width, height, CRC-32 of all regions
CHECK = struct.Struct("<I")  # CRC-32 of a record and the boxes behind it
DTYPES = {"float16": "F16", "float32": "F32", "int64": "I64"}
COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")  # of bottom-up attention's .tsv

Seen = Callable[[int, int, int], None]
"""is told how many images are packed, how many bytes of the source were looked at, and how many it has"""


class Record(NamedTuple):
    """An image in the journal."""

    image_id: int
    stamp: int
    regions: int
    feature_size: int
    width: float
    height: float
    crc: int
    boxes: bytes


class Entry(NamedTuple):
    """An image of a source."""

    where: str
    image_id: int
    stamp: int
    """another one if the image was changed"""
    end: int
    """bytes of the source up to here"""
    read: Callable[[], Image] | None
    """None: it is packed already"""


class Written(NamedTuple):
    """An array in a packed file."""

    dtype: str
    shape: tuple[int, ...]
    crc: int


def pack(source: Path, seen: Seen = lambda images, looked_at, total: None) -> Path:
    """Packs a folder of ``.npz``, a ``.tar`` or ``.tar.gz`` of them, or bottom-up attention's ``.tsv``, where it is not
    packed yet; goes on where an earlier run was ended.

    Returns:
        The packed file.

    Raises:
        InputError: the source or an image of it is wrong, or the disk is full. What is packed is kept.
    """
    target = packed_path(source)
    if target.is_file():
        _same_images(source, target)
        for leftover in _partial_paths(target):  # of a run that was ended after the file had its name
            leftover.unlink(missing_ok=True)
        return target
    refuse_unknown(source)
    if not source.is_dir() and not (source.is_file() and source.name.endswith(ARCHIVES)):
        raise InputError(f"{source}: cannot be packed: expected a folder of .npz or a file {', '.join(ARCHIVES)}")
    with Partial(target) as packed, _one_thread():
        total = _bytes(source)
        if total:
            _leave_room(source, target, total, packed.size)
        try:
            for entry, image in _read_ahead(_entries(source, packed.has)):
                if image:
                    packed.add(entry, image)
                seen(len(packed.records), entry.end, total)
            if not packed.records:
                raise InputError(
                    f"{source}: no features in it: expected files like COCO_train2014_000000000009.jpg.npz"
                )
            packed.finish()
        except OSError as error:
            raise InputError(
                f"{target}: {error.strerror or error} after {len(packed.records)} images: make room, and the same "
                "command goes on"
            ) from None
    return target


@contextmanager
def _one_thread() -> Iterator[None]:
    """What torch computes here is small, and the readers need the other cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def verify(path: Path, seen: Callable[[int, int], None] = lambda looked_at, total: None) -> None:
    """Reads the whole of a packed file; ``seen`` is told how many bytes were read, and how many there are.

    Raises:
        InputError: it is not what was packed, or no packed file.
    """
    checksums, arrays = packed_checksums(path), packed_arrays(path)
    looked_at, total = 0, sum(array.nbytes for array in arrays.values())
    for name, array in arrays.items():
        crc, content = 0, array.reshape(-1).view(np.uint8)
        for start in range(0, len(content), 2**24):
            part = content[start : start + 2**24]
            crc = zlib.crc32(part, crc)
            looked_at += len(part)
            seen(looked_at, total)
        if f"{crc:08x}" != checksums[name]:
            raise InputError(
                f"{path}: {name} has the CRC-32 {crc:08x}, expected {checksums[name]}: damaged since it was packed; "
                "delete it, and launch.py --pack makes it again"
            )


class Partial:
    """A packed file while it is made, for a ``with``."""

    def __init__(self, target: Path):
        self.target = target
        self._paths = _partial_paths(target)
        self.records: list[Record] = []
        self._earlier: list[Record] | None = None  # None: from here on images are written
        self._image_ids: set[int] = set()
        self._rows, self._crc = 0, 0
        self._pending, self._unsynced = bytearray(), 0
        self._syncing = ThreadPoolExecutor(1)  # the next images are written meanwhile
        self._synced: Future | None = None

    def __enter__(self) -> "Partial":
        try:
            self._data, self._journal = map(_open, self._paths)
        except OSError as error:
            raise InputError(f"{self.target}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{self.target}: another process is packing it") from None
        self.size = os.fstat(self._data.fileno()).st_size
        self._earlier, end = [], HEAD_SIZE
        for record in _records(self._journal.read()):
            end += 2 * record.regions * record.feature_size
            if end > self.size:
                break
            self._earlier.append(record)
        return self

    def __exit__(self, *error) -> None:
        with suppress(OSError):  # when the disk is full
            self._sync(wait=True)
        self._syncing.shutdown()
        if not self.records and not self._earlier:
            for path in self._paths:
                path.unlink(missing_ok=True)
        self._data.close()
        self._journal.close()

    def has(self, image_id: int, stamp: int) -> bool:
        """Whether the source's next image is packed already. To be asked of every image, in order."""
        if self._earlier is not None:
            if len(self.records) < len(self._earlier):
                record = self._earlier[len(self.records)]
                if (record.image_id, record.stamp) == (image_id, stamp):
                    self._count(record)
                    return True
            self._begin()
        return False

    def add(self, entry: Entry, image: Image) -> None:
        """Writes the next image of the source."""
        regions, width = image.features.shape
        if entry.image_id in self._image_ids:
            raise InputError(f"{entry.where}: features of image {entry.image_id} once more: expected them once")
        if self.records and width != self.records[0].feature_size:
            raise InputError(
                f"{entry.where}: x has {width} features a region, those before {self.records[0].feature_size}"
            )
        features = torch.from_numpy(image.features)  # for both, NumPy takes ten times as long
        low, high = features.aminmax()
        if (largest := max(-low, high)) > IN_HALF:
            raise InputError(f"{entry.where}: x holds {largest:g}: float16 holds {IN_HALF:g} at most")
        features = features.half().numpy()
        self._write(features)
        crc = zlib.crc32(features, self._crc)
        record = Record(entry.image_id, entry.stamp, regions, width, *image.size, crc, image.boxes.tobytes())
        self._count(record)
        content = RECORD.pack(*record[:-1]) + record.boxes
        self._pending += content + CHECK.pack(zlib.crc32(content))
        self._unsynced += features.nbytes
        if self._unsynced >= SYNC:
            self._sync()

    def finish(self) -> None:
        """Writes what stands behind the regions, then the head, and gives the file its name."""
        self._begin()
        self._sync(wait=True)
        # Rows of zeros, at least one; what comes behind them begins at a multiple of eight bytes.
        padding = 4 - self._rows % 4
        zeros = np.zeros((padding, self.records[0].feature_size), np.float16)
        self._write(zeros)
        arrays = {"features": Written("float16", (self._rows + padding, zeros.shape[1]), zlib.crc32(zeros, self._crc))}
        boxes = np.frombuffer(b"".join(record.boxes for record in self.records), np.float32).reshape(-1, 4)
        for name, array in {
            "boxes": np.concatenate([boxes, np.zeros((padding, 4), np.float32)]),
            "counts": np.array([record.regions for record in self.records]),
            "image_ids": np.array([record.image_id for record in self.records]),
            "sizes": np.array([(record.width, record.height) for record in self.records], np.float32),
        }.items():
            self._write(array)
            arrays[name] = Written(array.dtype.name, array.shape, zlib.crc32(array))
        self._data.seek(0)
        self._write(np.frombuffer(_head(arrays), np.uint8))
        os.fsync(self._data.fileno())
        self._paths[0].replace(self.target)
        folder = os.open(self.target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self._paths[1].unlink()

    def _begin(self) -> None:
        """Drops what an earlier run wrote behind the images that the source still begins with."""
        if self._earlier is None:
            return
        self._earlier = None
        data = HEAD_SIZE + sum(2 * record.regions * record.feature_size for record in self.records)
        journal = sum(RECORD.size + len(record.boxes) + CHECK.size for record in self.records)
        for file, size in ((self._data, data), (self._journal, journal)):
            file.truncate(size)
            file.seek(size)

    def _count(self, record: Record) -> None:
        self.records.append(record)
        self._image_ids.add(record.image_id)
        self._rows, self._crc = self._rows + record.regions, record.crc

    def _write(self, array: np.ndarray) -> None:
        content = memoryview(array.reshape(-1).view(np.uint8))
        while content:
            content = content[self._data.write(content) :]

    def _sync(self, wait: bool = False) -> None:
        """Puts the regions on the disk, and then into the journal which images they are; one such errand at a time."""
        if self._synced:
            self._synced.result()
        self._synced = self._syncing.submit(self._put_on_disk, bytes(self._pending))
        self._pending, self._unsynced = bytearray(), 0
        if wait:
            self._synced.result()

    def _put_on_disk(self, records: bytes) -> None:
        if records:
            os.fsync(self._data.fileno())
            if hasattr(os, "posix_fadvise"):  # not on macOS; else the system would look for memory as it fills up
                os.posix_fadvise(self._data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while records:
                records = records[self._journal.write(records) :]
            os.fsync(self._journal.fileno())


def _head(arrays: dict[str, Written]) -> bytes:
    """The head of a safetensors file in which these arrays stand one behind the other."""
    checksums = {f"crc32 {name}": f"{array.crc:08x}" for name, array in arrays.items()}
    head: dict = {"__metadata__": {"format": PACKED_FORMAT} | checksums}
    end = 0
    for name, (dtype, shape, _) in arrays.items():
        start, end = end, end + np.dtype(dtype).itemsize * math.prod(shape)
        head[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(head).encode().ljust(HEAD_SIZE - 8)
    return struct.pack("<Q", len(text)) + text


def _open(path: Path) -> io.FileIO:
    """For reading and writing, made if it is not there; without a buffer, whose rest a full disk would leave."""
    return io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")


def _partial_paths(target: Path) -> tuple[Path, Path]:
    """Of the regions and of the journal."""
    return target.with_name(target.name + ".partial"), target.with_name(target.name + ".journal")


def _records(journal: bytes) -> Iterator[Record]:
    """The records of a journal, up to one that was not written to its end."""
    start = 0
    while start + RECORD.size <= len(journal):
        fields = RECORD.unpack_from(journal, start)
        end = start + RECORD.size + 16 * fields[2]
        if journal[end : end + CHECK.size] != CHECK.pack(zlib.crc32(journal[start:end])):
            return
        yield Record(*fields, journal[start + RECORD.size : end])
        start = end + CHECK.size


def _read_ahead(entries: Iterator[Entry]) -> Iterator[tuple[Entry, Image | None]]:
    """The images of entries, in their order, while threads read the next ones, several at a time: to hand over each
    alone would take as long as to read it."""
    pool = ThreadPoolExecutor(READERS)
    waiting: deque = deque()
    try:
        while part := list(islice(entries, TOGETHER)):
            waiting.append((part, pool.submit(_read, part)))
            if len(waiting) > AHEAD:
                yield from _images(*waiting.popleft())
        while waiting:
            yield from _images(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _read(entries: list[Entry]) -> list[Image | InputError | None]:
    """Up to the first that is wrong."""
    images: list[Image | InputError | None] = []
    for entry in entries:
        try:
            images.append(entry.read and entry.read())
        except InputError as error:
            return [*images, error]
    return images


def _images(entries: list[Entry], images: Future) -> Iterator[tuple[Entry, Image | None]]:
    for entry, image in zip(entries, images.result()):  # may be shorter, and ends with an error then
        if isinstance(image, InputError):
            raise image
        yield entry, image


def _entries(source: Path, has: Callable[[int, int], bool]) -> Iterator[Entry]:
    """The images of a source, always in one order; ``has`` says which of them are not wanted."""
    if source.is_dir():
        return _of_folder(source, has)
    return _of_tsv(source, has) if source.suffix == ".tsv" else _of_tar(source, has)


def _of_folder(folder: Path, has: Callable[[int, int], bool]) -> Iterator[Entry]:
    end = 0
    for image_id, path in feature_files(folder).items():
        stat = path.stat()
        stamp, end = _stamp(path.name, stat.st_size, stat.st_mtime_ns), end + stat.st_size
        yield Entry(str(path), image_id, stamp, end, None if has(image_id, stamp) else partial(read_npz, path))


def _of_tar(path: Path, has: Callable[[int, int], bool]) -> Iterator[Entry]:
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    archive.members = []  # it would keep all
                    if not member.isfile() or (image_id := image_of(member.name.rpartition("/")[2])) is None:
                        continue
                    where = f"{path}: {member.name}"
                    stamp = _stamp(member.name, member.size, member.mtime)
                    read = None
                    if not has(image_id, stamp):
                        read = partial(read_npz, archive.extractfile(member).read(), where)
                    yield Entry(where, image_id, stamp, file.tell(), read)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise InputError(f"{path}: broken or cut short: {one_line(error)}") from None


def _of_tsv(path: Path, has: Callable[[int, int], bool]) -> Iterator[Entry]:
    """By lines and tabs: nothing in these files is quoted, and the csv module refuses fields as long as theirs."""
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
            yield Entry(where, image_id, stamp, end, None if has(image_id, stamp) else partial(_of_line, cells, where))


def _of_line(cells: list[bytes], where: str) -> Image:
    try:
        width, height, regions = (np.array(float(cell)) for cell in cells[1:4])
        boxes, features = (np.frombuffer(binascii.a2b_base64(cell), np.float32) for cell in cells[4:])
        x, bbox = features.reshape(int(regions), -1).T, boxes.reshape(int(regions), -1)
    except (ValueError, OverflowError) as error:  # binascii's are of the first kind
        raise InputError(f"{where}: not of numbers and float32 in base64: {one_line(error)}") from None
    return checked(x, bbox, width, height, where)


def _stamp(*what: str | int) -> int:
    return zlib.crc32(repr(what).encode())


def _bytes(source: Path) -> int:
    if source.is_dir():
        return sum(path.stat().st_size for path in feature_files(source).values())
    return source.stat().st_size


def _leave_room(source: Path, target: Path, total: int, written: int) -> None:
    """Looks whether the packed file will fit on the disk, as far as can be told before.

    Raises:
        InputError: it will not.
    """
    if source.is_dir():
        files = list(feature_files(source).values())
        files = files[:: max(1, len(files) // SAMPLE)]
        regions, widths, _ = np.array([read_head(path) for path in files]).T
        needed = total * 2 * (regions * widths).sum() / sum(path.stat().st_size for path in files)
    else:  # float32 in base64, or numbers that compress little
        needed = total * (3 / 8 if source.suffix == ".tsv" else 1 / 2)
    missing = needed - written + SPARE - shutil.disk_usage(target.parent).free
    if missing > 0:
        raise InputError(
            f"{target}: takes about {needed / 1e9:.1f} GB, for which {missing / 1e9:.1f} GB are missing on the disk: "
            "make room, or name features on another disk"
        )


def _same_images(source: Path, target: Path) -> None:
    """Looks whether the folder has nothing that its packed file has not.

    Raises:
        InputError: it has.
    """
    if source.is_dir():
        packed, there = set(packed_arrays(target)["image_ids"].tolist()), set(feature_files(source))
        if new := there - packed:
            raise InputError(
                f"{target}: made when {source} had not yet {len(new)} of its images, such as {min(new)}: "
                "delete it to pack all"
            )
