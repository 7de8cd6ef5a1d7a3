"""The two forms of https://github.com/facebookresearch/mmf: a folder of ``.npy`` files, and LMDB.

Both have pickles in them, which :mod:`trainer.data.packing.plain_pickle` reads as data.
"""

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model_space.errors import InputError, one_line
from trainer.data.features.folder import INFO, feature_files
from trainer.data.features.names import UNREADABLE
from trainer.data.features.npz import ImageFeatures, NpzForm, image_features, retried
from trainer.data.packing.plain_pickle import read_pickle
from trainer.data.packing.sources.files import open_files
from trainer.data.packing.sources.source import Entry, IsPacked, Source, image_named, stamp_of

NAMES = ("features", "bbox", "image_width", "image_height")
"""What of an image is used: features (N, D), boxes (N, 4) in pixels, the size in pixels."""
KEYS = b"keys"
"""The key of an LMDB whose value is a list of all others."""


def open_npy_folder(folder: Path, form: NpzForm) -> Source:
    """Opens a folder of ``X.npy``, features, and ``X_info.npy``, what else is known of the same image."""
    images = {}
    for image_id, path in feature_files(folder, ".npy").items():
        info = path.with_name(path.name.removesuffix(".npy") + INFO)
        images[image_id] = [path, info] if info.is_file() else [path]
    return open_files(images, partial(_read_npy, form=form))


def open_lmdb(path: Path, form: NpzForm) -> Source:
    """Opens an LMDB, a folder or a file, with a pickled dict an image. Its structure is checked first: LMDB itself
    would follow a broken one anywhere, and end the process.

    Raises:
        InputError: If it is none, or is broken, or lmdb is not installed.
    """
    try:
        from lmdb.verify import VerifyError, verify
    except ImportError:
        raise InputError(f"{path}: LMDB is read by lmdb 3, which is missing: pip install 'lmdb>=3'") from None
    try:
        mistakes = verify(path)
        stat = (path / "data.mdb" if path.is_dir() else path).stat()
    except (VerifyError, OSError) as error:
        raise InputError(f"{path}: broken, or no LMDB: {one_line(error)}") from None
    if mistakes:
        raise InputError(f"{path}: broken or cut short: {mistakes[0]}")
    with _lmdb(path) as environment:
        nbytes = min(stat.st_size, (environment.info()["last_pgno"] + 1) * environment.stat()["psize"])
    return Source(nbytes, nbytes / 2, partial(_lmdb_entries, path, nbytes, stat.st_mtime_ns, form))


def _read_npy(path: Path, info: Path | None = None, *, form: NpzForm) -> ImageFeatures:
    features = _load(path)
    if not isinstance(features, np.ndarray):
        raise InputError(f"{path}: holds {type(features).__name__}, expected an array of numbers")
    if info is None:
        if form.boxes == "files":
            beside = path.name.removesuffix(".npy") + INFO
            raise InputError(
                f"{path}: no {beside} beside it, which has the boxes: expected it, or the setting data.boxes: grid or "
                "none, which is of features without boxes"
            )
        return _image({"features": features}, str(path), form)
    content = _load(info)
    if not isinstance(content, dict):
        raise InputError(f"{info}: holds {type(content).__name__}, expected a dict with {', '.join(NAMES[1:])}")
    return _image(content | {"features": features}, f"{path} and {info.name}", form)


def _load(path: Path) -> Any:
    """Reads an ``.npy`` file: an array of numbers, or the one object that is pickled in it."""

    def has_objects() -> bool:
        file.seek(0)
        newer = np.lib.format.read_magic(file) != (1, 0)
        header = (np.lib.format.read_array_header_2_0 if newer else np.lib.format.read_array_header_1_0)(file)
        return header[2].hasobject

    try:
        content = path.read_bytes()
        file = io.BytesIO(content)
        if not retried(has_objects):
            return retried(lambda: np.load(io.BytesIO(content), allow_pickle=False))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # NumPy has a dozen errors for a broken file
        raise InputError(f"{path}: broken, or not an .npy: {one_line(error)}") from None
    return read_pickle(content[file.tell() :], str(path))


def _lmdb(path: Path) -> Any:
    import lmdb

    try:
        return lmdb.open(str(path), subdir=path.is_dir(), readonly=True, create=False, lock=False)
    except lmdb.Error as error:
        raise InputError(f"{path}: cannot be read: {one_line(error)}") from None


def _lmdb_entries(path: Path, nbytes: int, modified: int, form: NpzForm, is_packed: IsPacked) -> Iterator[Entry]:
    with _lmdb(path) as environment, environment.begin(buffers=True) as transaction:
        images = max(1, transaction.stat()["entries"])
        number = 0
        for number, (key, value) in enumerate(transaction.cursor(), 1):
            if key == KEYS:
                continue
            name = bytes(key).decode("utf-8", UNREADABLE)
            where = f"{path}: {name}"
            image_id, stamp = image_named(name, f"{path}: a key"), stamp_of(name, len(value), modified)
            read = None if is_packed(image_id, stamp) else partial(_read_value, bytes(value), where, form)
            yield Entry(where, image_id, stamp, nbytes * number // images, read)


def _read_value(value: bytes, where: str, form: NpzForm) -> ImageFeatures:
    content = read_pickle(value, where)
    if not isinstance(content, dict):
        raise InputError(f"{where}: holds {type(content).__name__}, expected a dict with {', '.join(NAMES)}")
    return _image(content, where, form)


def _image(content: dict, where: str, form: NpzForm) -> ImageFeatures:
    features, bbox, width, height = (content.get(name) for name in NAMES)
    for name, array in (("features", features), ("bbox", bbox)):
        if array is not None and not isinstance(array, np.ndarray):
            raise InputError(f"{where}: {name} is {type(array).__name__}, expected an array")
    for name, size in zip(NAMES[2:], (width, height)):
        if not isinstance(size, int | float | np.number | None):
            raise InputError(f"{where}: {name} is of type {type(size).__name__}, expected a number of pixels")
    sizes = [None if size is None else np.asarray(size) for size in (width, height)]
    return image_features(features, bbox, sizes[0], sizes[1], where, NpzForm(True, form.boxes, NAMES))
