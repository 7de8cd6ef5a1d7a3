"""A packed file while it is made.

There are two files beside it, ``X.safetensors.partial`` and ``X.safetensors.journal``. The first has room for the
header and then the regions, image by image; the second says which images these are. Regions are on the disk before the
journal names them. So whatever moment ends the process, the next one resumes behind the last image that is named, and
ends with the same bytes. When the file is whole, it gets its name.

Shards that are renamed when they are whole would need no journal, but would have to be joined in the end, which takes
half as long again as packing and twice the disk.
"""

import io
import os
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from model_space.errors import InputError
from model_space.files import lock, partial_path
from trainer.data.features.names import UNREADABLE, ImageId, key_of
from trainer.data.features.npz import ImageFeatures
from trainer.data.features.packed import EXTRACTOR, NAMES, PACKED_FORMAT
from trainer.data.packing.journal import Record, read_records
from trainer.data.packing.sources.source import Entry
from trainer.data.safetensors_file import header

HEADER_SIZE = 4096
"""The bytes of the header, so that the regions begin on a page."""
SYNC = 2**28
"""The bytes of regions after which all that was written is put on the disk. A kill costs no more than these."""
LARGEST_HALF = float(np.finfo(np.float16).max)


class PartialFile:
    """A packed file while it is made, for a ``with`` block.

    Args:
        target: The path that the file has when it is whole.

    Raises:
        InputError: If the file cannot be written, or another process is packing it.
    """

    def __init__(self, target: Path):
        self.target = target
        self._paths = partial_path(target), journal_path(target)
        self.records: list[Record] = []
        self._earlier: list[Record] | None = None
        """What an earlier process wrote; None as soon as this one writes."""
        self._keys: set[int] = set()
        self._names: list[str] = []
        """The name of each image, empty for one with a number."""
        self._rows, self._crc = 0, 0
        self._pending, self._unsynced = bytearray(), 0
        self._syncing = ThreadPoolExecutor(1)  # Meanwhile the next images are written.
        self._synced: Future | None = None

    def __enter__(self) -> "PartialFile":
        try:
            self._data, self._journal = map(_open, self._paths)
        except OSError as error:
            raise InputError(f"{self.target}: cannot be written: {error.strerror}") from None
        if not lock(self._journal):
            raise InputError(f"{self.target}: another process is packing it")
        self.size = os.fstat(self._data.fileno()).st_size
        self._earlier, end = [], HEADER_SIZE
        for record in read_records(self._journal.read()):
            end += record.nbytes
            if end > self.size:
                break
            self._earlier.append(record)
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):  # The disk may be full.
            self._sync(wait=True)
        self._syncing.shutdown()
        if not self.records and not self._earlier:
            for path in self._paths:
                path.unlink(missing_ok=True)
        self._data.close()
        self._journal.close()

    def has(self, image_id: ImageId, stamp: int) -> bool:
        """Returns whether the next image of the source is packed already; must be called for every image, in order."""
        self._names.append(image_id if isinstance(image_id, str) else "")
        if self._earlier is not None:
            if self.is_next(image_id, stamp):
                self._count(self._earlier[len(self.records)])
                return True
            self.begin()
        return False

    def is_next(self, image_id: ImageId, stamp: int, after: int = 0) -> bool:
        """Returns whether an image follows the images that were asked for so far, and so many more, in what an earlier
        process packed."""
        place = len(self.records) + after
        if self._earlier is None or place >= len(self._earlier):
            return False
        return (self._earlier[place].image_id, self._earlier[place].stamp) == (key_of(image_id), stamp)

    def add(self, entry: Entry, image: ImageFeatures) -> None:
        """Writes the next image of the source.

        Raises:
            InputError: If the image does not fit the others, or float16 cannot hold its features.
        """
        regions, width = image.features.shape
        key = key_of(entry.image_id)
        if key in self._keys:
            raise InputError(f"{entry.where}: features of image {entry.image_id} once more: expected them once")
        if self.records and width != self.records[0].feature_size:
            raise InputError(
                f"{entry.where}: {width} features a region, those before have {self.records[0].feature_size}"
            )
        features = torch.from_numpy(image.features)  # For both steps, NumPy takes ten times as long as torch.
        low, high = features.aminmax()
        if (largest := max(-low, high)) > LARGEST_HALF:
            raise InputError(f"{entry.where}: a feature is {largest:g}: float16 holds {LARGEST_HALF:g} at most")
        half = features.half().numpy()
        self._write(half)
        crc = zlib.crc32(half.data, self._crc)
        record = Record(key, entry.stamp, regions, width, *image.size, crc, image.boxes.tobytes())
        self._count(record)
        self._pending += record.to_bytes()
        self._unsynced += half.nbytes
        if self._unsynced >= SYNC:
            self._sync()

    def finish(self, extractor: str | None = None) -> None:
        """Writes what is behind the regions, then the header, and gives the file its name.

        Args:
            extractor: What made the features, if that is known.
        """
        self.begin()
        self._sync(wait=True)
        # At least one row of zeros; what is behind them begins at a multiple of eight bytes.
        padding = 4 - self._rows % 4
        zeros = np.zeros((padding, self.records[0].feature_size), np.float16)
        self._write(zeros)
        arrays = {"features": ("float16", (self._rows + padding, zeros.shape[1]))}
        checksums = {"features": zlib.crc32(zeros.data, self._crc)}
        for name, array in self._small_arrays(padding).items():
            self._write(array)
            arrays[name], checksums[name] = (array.dtype.name, array.shape), zlib.crc32(array.data)
        self._data.seek(0)
        metadata = {"format": PACKED_FORMAT} | {f"crc32 {name}": f"{crc:08x}" for name, crc in checksums.items()}
        if extractor is not None:
            metadata[EXTRACTOR] = extractor
        self._write(np.frombuffer(header(arrays, metadata, HEADER_SIZE), np.uint8))
        os.fsync(self._data.fileno())
        self._paths[0].replace(self.target)
        folder = os.open(self.target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self._paths[1].unlink()

    def _small_arrays(self, padding: int) -> dict[str, np.ndarray]:
        """Returns the arrays behind the features, with so many rows of zeros behind the boxes."""
        boxes = np.frombuffer(b"".join(record.boxes for record in self.records), np.float32).reshape(-1, 4)
        arrays = {
            "boxes": np.concatenate([boxes, np.zeros((padding, 4), np.float32)]),
            "counts": np.array([record.regions for record in self.records]),
            "image_ids": np.array([record.image_id for record in self.records]),
            "sizes": np.array([(record.width, record.height) for record in self.records], np.float32),
        }
        if any(self._names):
            arrays[NAMES] = np.frombuffer("\0".join(self._names).encode("utf-8", UNREADABLE), np.uint8)
        return arrays

    def begin(self) -> None:
        """Cuts off what an earlier process wrote behind the images with which the source still begins."""
        if self._earlier is None:
            return
        self._earlier = None
        data = HEADER_SIZE + sum(record.nbytes for record in self.records)
        journal = sum(len(record.to_bytes()) for record in self.records)
        for file, size in ((self._data, data), (self._journal, journal)):
            file.truncate(size)
            file.seek(size)

    def _count(self, record: Record) -> None:
        self.records.append(record)
        self._keys.add(record.image_id)
        self._rows, self._crc = self._rows + record.regions, record.crc

    def _write(self, array: np.ndarray) -> None:
        content = array.reshape(-1).view(np.uint8).data
        while content:
            content = content[self._data.write(content) :]

    def _sync(self, wait: bool = False) -> None:
        """Puts the regions on the disk, and then into the journal which images they are, in a thread."""
        if self._synced:
            self._synced.result()
        self._synced = self._syncing.submit(self._put_on_disk, bytes(self._pending))
        self._pending, self._unsynced = bytearray(), 0
        if wait:
            self._synced.result()

    def _put_on_disk(self, records: bytes) -> None:
        if records:
            os.fsync(self._data.fileno())
            if hasattr(os, "posix_fadvise"):  # Not on macOS. Otherwise the system would search for memory as it fills.
                os.posix_fadvise(self._data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while records:
                records = records[self._journal.write(records) :]
            os.fsync(self._journal.fileno())


def journal_path(target: Path) -> Path:
    """Returns where the journal of a packed file is while it is made."""
    return target.with_name(f"{target.name}.journal")


def _open(path: Path) -> io.FileIO:
    """Opens a file for reading and writing, and makes it if it is not there. It has no buffer, since a full disk would
    leave the rest of it unwritten."""
    return io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
