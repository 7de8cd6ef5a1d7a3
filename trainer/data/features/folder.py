"""A folder with one ``.npz`` file an image: which images it has, and batches that read their files."""

import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_space.errors import InputError
from model_space.files import write_whole
from trainer.data.features.names import PICTURE, UNREADABLE, ImageId, image_of
from trainer.data.features.npz import MCAN, NpzForm, NpzHeader, read_header, read_npz
from trainer.data.features.packed import PackedFeatures

INFO = "_info.npy"
"""The ending of a file of mmf's with what else is known of an image, beside its features."""
IN_MEMORY = 2**30
"""Features whose files have at most so many bytes are held in memory."""


def open_folder(
    folder: Path, files: dict[ImageId, Path], image_ids: Sequence[ImageId], max_regions: int, form: NpzForm = MCAN
) -> "PackedFeatures | NpzFiles":
    """Opens the features of some images of a folder.

    If their files are small they are read now and held in memory, else only their headers are read now.

    Args:
        folder: The folder.
        files: All files of the folder by the id of their image, as :func:`feature_files` returns them.
        image_ids: The images to open, at least one.
        max_regions: The number of regions of an image that are kept in memory, the first ones.
        form: What is in the files.

    Raises:
        InputError: If a file is broken, or has features of another width than the others.
    """
    paths = [files[image_id] for image_id in image_ids]
    if sum(path.stat().st_size for path in paths) <= IN_MEMORY:
        return _read_all(paths, max_regions, form)
    all_paths = list(dict.fromkeys(files.values()))
    headers = dict(zip(all_paths, read_headers(folder, all_paths, form)))
    opened = [headers[path] for path in paths]
    for path, header in zip(paths, opened):
        if not header.regions:
            read_npz(path, form=form)  # raises the error that says what is wrong
        _check_width(path, header.feature_size, paths[0], opened[0].feature_size)
    half = all(header.item_size == 2 for header in opened)
    counts = np.array([header.regions for header in opened])
    return NpzFiles(paths, counts, opened[0].feature_size, torch.float16 if half else torch.float32, form)


class NpzFiles:
    """Features that every batch reads from its images' files.

    Args:
        paths: The file of each image.
        counts: The number of regions of each image (I,), as its header says.
        feature_size: The number of features of a region.
        dtype: The type of a batch's features.
        form: What is in the files.
    """

    def __init__(
        self, paths: list[Path], counts: np.ndarray, feature_size: int, dtype: torch.dtype, form: NpzForm = MCAN
    ):
        self._paths, self.feature_size, self.dtype, self._form = paths, feature_size, dtype, form
        self.extractor = None
        self.counts = torch.from_numpy(counts)

    def gather(self, images: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Returns features and boxes of images, as :meth:`PackedFeatures.gather` does."""
        regions = torch.zeros(len(images), longest, self.feature_size, dtype=self.dtype)
        boxes = torch.zeros(len(images), longest, 4)
        for row, image in enumerate(images.tolist()):
            try:
                features, corners, _ = read_npz(self._paths[image], form=self._form)
            except InputError as error:
                raise ReadingError(str(error)) from None
            if features.shape != (self.counts[image], self.feature_size):
                raise ReadingError(f"{self._paths[image]}: has changed since the start, when its header was read")
            count = min(longest, len(features))
            regions[row, :count] = torch.from_numpy(features[:count])
            boxes[row, :count] = torch.from_numpy(corners[:count])
        return regions, boxes


class ReadingError(InputError):
    """A mistake in a file that a batch finds, perhaps in a worker process of a loader.

    PyTorch raises the error of a worker once more in the training process, with the whole traceback as its message.
    Only the last line of the message is kept.
    """

    def __init__(self, message: str):
        super().__init__(message.strip().rpartition("\n")[2].removeprefix(f"{__name__}.{type(self).__name__}: "))


def feature_files(folder: Path, ending: str = ".npz") -> dict[ImageId, Path]:
    """Returns the files of a folder with this ending by the id of their image, in the order of their names.

    Raises:
        InputError: If the folder cannot be read, or two files are of one image.
    """
    files: dict[ImageId, Path] = {}
    for image_id, path in list_images(folder, ending):
        if (other := files.setdefault(image_id, path)) is not path:
            raise InputError(f"{folder}: two files of image {image_id}: {other.name} and {path.name}")
    return files


def list_images(folder: Path, ending: str = ".npz") -> list[tuple[ImageId, Path]]:
    """Returns the image id and the path of every file in a folder and below it with this ending, in the order of their
    names.

    Raises:
        InputError: If the folder cannot be read, or has pictures in place of features.
    """
    names = names_below(folder)
    listed = [(image_id, folder / name) for name in names if (image_id := image_id_of(name, ending)) is not None]
    if not listed and (picture := next(filter(PICTURE.search, names), None)):
        raise InputError(
            f"{folder}: has pictures, such as {picture}, and no features: launch.py --pack SETTINGS makes them, where "
            "the settings say by what (data.pictures)"
        )
    return listed


def names_below(folder: Path) -> list[str]:
    """Returns the names of all files in a folder and below it, in their order.

    Raises:
        InputError: If the folder cannot be read.
    """

    def stop(error: OSError) -> None:
        raise InputError(f"{folder}: cannot read the folder: {error.strerror}") from None

    below = [
        (Path(parent).relative_to(folder), names)
        for parent, _, names in os.walk(folder, onerror=stop, followlinks=True)
    ]
    return sorted(str(parent / name) for parent, of_parent in below for name in of_parent)


def image_id_of(name: str, ending: str = ".npz") -> ImageId | None:
    """Returns the id of the image whose features are in a file of this name, or None for a file of another kind.

    Example:
        >>> image_id_of("COCO_train2014_000000000009.jpg.npz"), image_id_of("street/photo-17.npz")
        (9, 'street/photo-17')
    """
    return image_of(name.removesuffix(ending)) if name.endswith(ending) and not name.endswith(INFO) else None


def read_headers(folder: Path, paths: list[Path], form: NpzForm = MCAN) -> list[NpzHeader]:
    """Reads the headers of a folder's files.

    The result is kept in ``FOLDER.headers.npy`` beside the folder, if that can be written, and is read from there as
    long as no file has changed.
    """
    stats = [path.stat() for path in paths]
    names = [zlib.crc32(f"{path.relative_to(folder)} {form!r}".encode("utf-8", UNREADABLE)) for path in paths]
    now = np.array([(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(names, stats)])
    cache = folder.with_name(folder.name + ".headers.npy")
    with suppress(OSError, ValueError, EOFError):  # There is no cache yet, or a broken one.
        kept = np.load(cache, allow_pickle=False)
        if kept.shape == (len(paths), 6) and (kept[:, :3] == now).all():
            return [NpzHeader(*header) for header in kept[:, 3:].tolist()]
    with ThreadPoolExecutor(8) as pool:  # While one thread waits for the disk, others work.
        portions = [paths[start : start + 256] for start in range(0, len(paths), 256)]
        headers = [
            *chain.from_iterable(pool.map(lambda portion: [read_header(path, form) for path in portion], portions))
        ]
    with suppress(InputError), write_whole(cache) as partial, partial.open("wb") as file:  # It may be read-only.
        np.save(file, np.hstack([now, np.array(headers)]))
    return headers


def _read_all(paths: list[Path], max_regions: int, form: NpzForm) -> PackedFeatures:
    """Reads files into memory; features stay float16 if every file has float16."""
    features: list[np.ndarray] = []
    boxes: list[np.ndarray] = []
    for path in paths:
        image = read_npz(path, form=form)
        if features:
            _check_width(path, image.features.shape[1], paths[0], features[0].shape[1])
        features.append(image.features[:max_regions])
        boxes.append(image.boxes[:max_regions])
    counts = np.array([len(image) for image in features])
    features.append(np.zeros_like(features[0][:1]))
    boxes.append(np.zeros_like(boxes[0][:1]))
    return PackedFeatures(np.concatenate(features), np.concatenate(boxes), counts)


def _check_width(path: Path, width: int, first_path: Path, first_width: int) -> None:
    if width != first_width:
        raise InputError(f"{path}: x has {width} features a region, {first_path.name} has {first_width}")
