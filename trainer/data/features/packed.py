"""Features of many images in a row: in memory, or mapped from a packed file that :mod:`trainer.data.packing` makes.

A packed file is a safetensors file. Of a mapped file, the operating system keeps in memory what fits.
"""

import os
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from model_space.errors import InputError
from trainer.data.features.names import UNREADABLE, ImageId
from trainer.data.safetensors_file import data_offset, open_safetensors

PACKED_FORMAT = "vqa features 1"
"""What the metadata of a packed file has under the key ``format``."""
PACKED_ARRAYS = ("features", "boxes", "counts", "image_ids", "sizes")
NAMES = "names"
"""The array that a packed file also has if any of its images has a name in place of a number."""

EXTRACTOR = "extractor"
"""What the metadata has this key for if it is known what made the features: see :mod:`trainer.data.pictures`."""


class PackedFeatures:
    """The regions of many images in a row.

    Args:
        features: Features (R + 1, D) of all regions, float16 or float32; the last row is zero.
        boxes: Boxes (R + 1, 4), float32; the last row is zero.
        counts: The number of regions of each image (I,).
        file: For features mapped from a file, its descriptor and the offset in bytes at which they begin.
        extractor: What made the features, if that is known.
    """

    def __init__(
        self,
        features: np.ndarray,
        boxes: np.ndarray,
        counts: np.ndarray,
        file: tuple[int, int] | None = None,
        extractor: str | None = None,
    ):
        self._features, self._boxes, self._file, self.extractor = features, boxes, file, extractor
        self.feature_size = features.shape[1]
        self.dtype = torch.float16 if features.dtype == np.float16 else torch.float32
        self.counts = torch.from_numpy(counts)
        self._starts = self.counts.cumsum(0) - self.counts
        self._announced = torch.zeros_like(self.counts, dtype=torch.bool)

    def gather(self, images: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Returns the first regions of some images, padded with zeros.

        Args:
            images: The positions of the images (B,).
            longest: The number of regions to which every image is cut or padded.

        Returns:
            Features (B, longest, D) in the type of the source, and boxes (B, longest, 4), float32.
        """
        starts, counts = self._starts[images, None], self.counts[images, None]
        if self._file and not self._announced[images].all():
            self._announce(images, *self._file)
        position, padding = torch.arange(longest), len(self._features) - 1
        # Where there is no region, the row of zeros is taken.
        index = torch.where(position < counts, starts + position, padding)
        # NumPy allocates large arrays in huge pages: torch's own memory would take longer to get than to fill.
        regions = torch.from_numpy(np.empty((*index.shape, self.feature_size), self._features.dtype))
        torch.index_select(torch.from_numpy(self._features), 0, index.view(-1), out=regions.view(-1, self.feature_size))
        return regions, torch.from_numpy(self._boxes.take(index.numpy(), axis=0))

    def _announce(self, images: Tensor, descriptor: int, offset: int) -> None:
        """Tells the operating system what a batch needs, so that it reads all of it at once and in the order that suits
        the disk. Otherwise it would read page by page and wait for each."""
        row = self._features.itemsize * self.feature_size
        for start, length in zip(self._starts[images].tolist(), self.counts[images].tolist()):
            os.posix_fadvise(descriptor, offset + row * start, row * length, os.POSIX_FADV_WILLNEED)
        # Features that fit into half of the memory are assumed to stay there.
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._announced[images] = self._features.nbytes < memory / 2


def open_packed(path: Path) -> tuple[PackedFeatures, list[ImageId]]:
    """Maps a packed file into memory.

    Returns:
        The features, and the id of each image.

    Raises:
        InputError: If the file is no packed file, or is cut short.
    """
    arrays = packed_arrays(path)
    file = None
    if hasattr(os, "posix_fadvise"):  # not on macOS
        descriptor = os.open(path, os.O_RDONLY)
        file = descriptor, data_offset(descriptor)
    packed = PackedFeatures(arrays["features"], arrays["boxes"], arrays["counts"], file, extractor_of(path))
    if file:
        weakref.finalize(packed, os.close, file[0])
    return packed, image_ids_of(arrays)


def extractor_of(path: Path) -> str | None:
    """Returns what made the features of a packed file; None if that is not known.

    Raises:
        InputError: If the file is no packed file.
    """
    with _open(path) as file:
        return file.metadata().get(EXTRACTOR)


def image_ids_of(arrays: dict[str, np.ndarray]) -> list[ImageId]:
    """Returns the id of each image of a packed file, of its arrays."""
    numbers = arrays["image_ids"].tolist()
    if NAMES not in arrays:
        return numbers
    names = arrays[NAMES].tobytes().decode("utf-8", UNREADABLE).split("\0")
    return [name or number for name, number in zip(names, numbers)]


def packed_arrays(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a packed file, mapped into memory.

    Returns:
        ``features`` (R + P, D) float16 and ``boxes`` (R + P, 4) float32, whose last P rows are zero, with P from one to
        four; ``counts`` (I,) and ``image_ids`` (I,) int64; ``sizes`` (I, 2) float32, width and height in pixels; where
        images have names, these as ``names`` uint8, UTF-8 with a zero between two images, empty for one with a number.

    Raises:
        InputError: If the file is no packed file, or is cut short.
    """
    with _open(path) as file:
        arrays = {name: file.get_tensor(name).numpy() for name in _arrays_of(file)}
    rows, images = arrays["counts"].sum(), len(arrays["counts"])
    fit = rows < len(arrays["features"]) == len(arrays["boxes"]) and len(arrays["image_ids"]) == images
    if not fit or len(image_ids_of(arrays)) != images:
        raise InputError(f"{path}: its arrays do not fit each other: delete it, and launch.py --pack makes it again")
    return arrays


def verify(path: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Reads the whole of a packed file and compares its checksums with those it was made with.

    Args:
        path: The packed file.
        progress: Is called with the number of bytes read so far, and that of all bytes.

    Raises:
        InputError: If the file is no packed file, or was damaged since it was packed.
    """
    with _open(path) as file:
        expected = {name: file.metadata().get(f"crc32 {name}", "none") for name in _arrays_of(file)}
    arrays = packed_arrays(path)
    done, total = 0, sum(array.nbytes for array in arrays.values())
    for name, array in arrays.items():
        crc, content = 0, array.reshape(-1).view(np.uint8)
        for start in range(0, len(content), 2**24):
            portion = content[start : start + 2**24]
            crc = zlib.crc32(portion.data, crc)
            done += len(portion)
            progress(done, total)
        if f"{crc:08x}" != expected[name]:
            raise InputError(
                f"{path}: {name} has the CRC-32 {crc:08x}, expected {expected[name]}: damaged since it was packed; "
                "delete it, and launch.py --pack makes it again"
            )


def _arrays_of(file: safe_open) -> tuple[str, ...]:
    return (*PACKED_ARRAYS, NAMES) if NAMES in file.keys() else PACKED_ARRAYS  # noqa: SIM118  it is no dictionary


@contextmanager
def _open(path: Path) -> Iterator[safe_open]:
    with open_safetensors(path, "packed features") as file:
        if (file.metadata() or {}).get("format") != PACKED_FORMAT:
            raise InputError(f"{path}: not a file of packed features: expected one made by launch.py --pack")
        yield file
