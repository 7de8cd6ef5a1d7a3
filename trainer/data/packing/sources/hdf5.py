"""HDF5 of bottom-up features.

Its forms are those of https://github.com/hengyuan-hu/bottom-up-attention-vqa, of as many regions an image, and of
https://github.com/jnhwkim/ban-vqa, of 10 to 100.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from model_space.errors import InputError, one_line
from trainer.data.features.names import ImageId
from trainer.data.features.npz import ImageFeatures, NpzForm, image_features
from trainer.data.packing.sources.rows import check_rows, read_rows
from trainer.data.packing.sources.source import Entry, IsPacked, Source, stamp_of

FEATURES, BOXES, SPATIAL, POSITIONS = "image_features", "image_bb", "spatial_features", "pos_boxes"
"""The datasets: features (N, K, D) and boxes (N, K, 4) in pixels, and (N, K, 6) with the corners, width and height of
boxes as shares of the image, by which its size is known. With ``pos_boxes`` (N, 2), the first region of each image and
the one behind its last, the others are (M, D), (M, 4) and (M, 6) of all regions."""
FORM = NpzForm(transposed=True, names=(FEATURES, BOXES, SPATIAL, SPATIAL))
CHUNKS = 2**26
"""The bytes of chunks that are kept, where a file is in chunks: one may be of several images."""
NEAR_PIXEL, NEAR_SHARE = 0.01, 0.001
"""A size is taken for a whole number of pixels if it is that near; shares of boxes may differ by rounding."""


class Datasets(NamedTuple):
    """The datasets of a file."""

    features: Any
    boxes: Any
    spatial: Any | None
    positions: Any | None

    @property
    def rows(self) -> int:
        """The number of images."""
        return len(self.features if self.positions is None else self.positions)


def open_hdf5(path: Path, form: NpzForm) -> Source:
    """Opens a file ``X.hdf5`` or ``X.h5``, beside which ``X_imgid2idx.pkl`` or ``.json`` says which row is whose.

    Raises:
        InputError: If it is none of these forms, or h5py is not installed.
    """
    ids = read_rows(path)
    with _open(path) as datasets:
        check_rows(ids, datasets.rows, path)
        packed = 2 * len(ids) * datasets.features.size / max(1, datasets.rows)
    return Source(path.stat().st_size, packed, partial(_entries, path, ids))


def _entries(path: Path, ids: dict[ImageId, int], is_packed: IsPacked) -> Iterator[Entry]:
    """Reads an image at a time, in the order in which they lie in the file."""
    stat = path.stat()
    with _open(path) as datasets:
        for number, (image_id, row) in enumerate(sorted(ids.items(), key=lambda each: each[1]), 1):
            where = f"{path}: row {row} (image {image_id})"
            stamp = stamp_of(str(image_id), row, stat.st_size, stat.st_mtime_ns)
            read = None if is_packed(image_id, stamp) else partial(_image, *_read(datasets, row, where), where)
            yield Entry(where, image_id, stamp, stat.st_size * number // len(ids), read)


@contextmanager
def _open(path: Path) -> Iterator[Datasets]:
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: HDF5 is read by h5py, which is missing: pip install h5py") from None
    with ExitStack() as stack:
        with _told(f"{path}: broken, or no HDF5"):
            file = stack.enter_context(h5py.File(path, "r", rdcc_nbytes=CHUNKS))
            found = [file.get(name) for name in (FEATURES, BOXES, SPATIAL, POSITIONS)]
            found = [each if isinstance(each, h5py.Dataset) else None for each in found]
            datasets = Datasets(*found)
            _check_shapes(datasets, path)
        yield datasets


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Makes any error one line that begins so: h5py has a dozen for a broken file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {one_line(error)}") from None


def _check_shapes(datasets: Datasets, path: Path) -> None:
    """Checks that the datasets of a file are there, hold numbers and fit each other."""
    for name, dataset in zip((FEATURES, BOXES, SPATIAL, POSITIONS), datasets):
        if dataset is None and name in (FEATURES, BOXES):
            raise InputError(f"{path}: no dataset {name}; expected {FEATURES}, {BOXES} and {SPATIAL}")
        if dataset is not None and dataset.dtype.kind not in ("iu" if name == POSITIONS else "fiu"):
            raise InputError(f"{path}: {name} is {dataset.dtype} {dataset.shape}, expected numbers")
    features = datasets.features.shape or ()
    if len(features) != (3 if datasets.positions is None else 2):
        raise InputError(
            f"{path}: {FEATURES} is {features}, expected (images, regions, features), or (regions, features) with "
            f"{POSITIONS}"
        )
    for name, dataset, width in ((BOXES, datasets.boxes, 4), (SPATIAL, datasets.spatial, 6)):
        if dataset is not None and dataset.shape != (*features[:-1], width):
            raise InputError(
                f"{path}: {name} is {dataset.shape}, expected {(*features[:-1], width)} since {FEATURES} is {features}"
            )
    if datasets.positions is not None and (shape := datasets.positions.shape) != (*shape[:1], 2):
        raise InputError(f"{path}: {POSITIONS} is {shape}, expected (images, 2)")


def _read(datasets: Datasets, row: int, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Reads the features, boxes and shares of an image."""
    with _told(f"{where}: broken or cut short"):
        place: int | slice = row
        if datasets.positions is not None:
            start, end = datasets.positions[row].tolist()
            regions = len(datasets.features)
            if not 0 <= start < end <= regions:
                raise InputError(f"{where}: {POSITIONS} is {start} to {end}, expected some of the {regions} regions")
            place = slice(start, end)
        shares = None if datasets.spatial is None else datasets.spatial[place]
        return datasets.features[place], datasets.boxes[place], shares


def _image(features: np.ndarray, boxes: np.ndarray, shares: np.ndarray | None, where: str) -> ImageFeatures:
    width, height = (None, None) if shares is None else _size(boxes, shares, where)
    return image_features(features, boxes, width, height, where, FORM)


def _size(boxes: np.ndarray, shares: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Returns the width and height of an image, by boxes (N, 4) in pixels and as shares (N, 6) of it; none where all
    boxes end at its left or upper side."""
    pixels, corners = boxes.astype(np.float64), shares[:, :4].astype(np.float64)
    if not np.isfinite(shares).all():
        raise InputError(f"{where}: {SPATIAL} holds NaN or infinity")
    if not len(corners) or not np.isfinite(pixels).all() or corners[:, 2:].max(0).min() <= 0:
        return None, None
    largest = corners[:, 2:].argmax(0)  # of which the size is known best
    size = pixels[largest, (2, 3)] / corners[largest, (2, 3)]
    size = np.where(np.abs(size - size.round()) < NEAR_PIXEL, size.round(), size)
    if size.min() <= 0 or not np.allclose(pixels / np.tile(size, 2), corners, rtol=0, atol=NEAR_SHARE):
        raise InputError(f"{where}: {SPATIAL} are not {BOXES} as shares of an image")
    return size[0], size[1]
