"""The features of one image in an ``.npz`` file, in the form in which mcan-vqa stores bottom-up features.

The file holds ``x``, features (D, N) of N regions; ``bbox``, boxes (N, 4) with the corners x1, y1, x2, y2 in pixels;
and ``image_w`` and ``image_h``, the size of the image in pixels.
"""

import io
import reprlib
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from model_space.errors import InputError, one_line

T = TypeVar("T")

ARRAYS = ("x", "bbox", "image_w", "image_h")


class ImageFeatures(NamedTuple):
    """The regions of one image."""

    features: np.ndarray
    """Features (N, D), float16 or float32."""
    boxes: np.ndarray
    """Boxes (N, 4), float32, with the corners x1, y1, x2, y2 in pixels."""
    size: tuple[float, float]
    """Width and height of the image in pixels."""


class NpzHeader(NamedTuple):
    """The shape and type of the features in a file."""

    regions: int
    """The number of regions; 0 if the file is broken."""
    feature_size: int
    """The number of features of a region."""
    item_size: int
    """The bytes of one number: 2 for float16, 4 for float32."""


def read_npz(file: Path | bytes, where: str | None = None) -> ImageFeatures:
    """Reads the features of one image.

    Args:
        file: The path of the file, or its content.
        where: Names the file in error messages; by default its path.

    Raises:
        InputError: If the file is broken, lacks an array, or has an array of another type or shape, or with NaN.

    Example:
        >>> path = Path("COCO_train2014_000000000009.jpg.npz")
        >>> np.savez(path, x=np.ones((2048, 36), "float32"), bbox=np.ones((36, 4)), image_w=640, image_h=480)
        >>> read_npz(path).features.shape
        (36, 2048)
    """
    where = where or str(file)

    def read() -> list[Any]:
        # The file is read whole: many small reads by several threads take longer. NpzFile is what np.load returns, but
        # np.load would look for a pickle in a file that is no zip.
        content = file if isinstance(file, bytes) else file.read_bytes()
        with np.lib.npyio.NpzFile(io.BytesIO(content)) as archive:
            return [archive.get(f"{name}.npy") for name in ARRAYS]

    try:
        found = _retried(read)
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # NumPy and zipfile have a dozen errors for a broken file
        raise InputError(f"{where}: broken, or not an .npz of plain arrays: {one_line(error)}") from None
    arrays = []
    for name, array in zip(ARRAYS, found):
        if array is None:
            raise InputError(f"{where}: no array {name!r}; expected {', '.join(ARRAYS)}")
        if not isinstance(array, np.ndarray):  # NpzFile gives the bytes of a file that is no array.
            raise InputError(f"{where}: broken, or not an .npz of plain arrays: {name}.npy is no array")
        arrays.append(array)
    x, bbox, width, height = arrays
    return image_features(x, bbox, width, height, where)


def image_features(x: np.ndarray, bbox: np.ndarray, width: np.ndarray, height: np.ndarray, where: str) -> ImageFeatures:
    """Checks the arrays of an ``.npz`` file and puts them into the form in which they are used.

    Args:
        x: Features (D, N), float16 or float32.
        bbox: Boxes (N, 4), any type of numbers.
        width: The width of the image in pixels, of shape ().
        height: The height of the image in pixels, of shape ().
        where: Names the file in error messages.

    Raises:
        InputError: If an array has another type or shape, or holds NaN or infinity.
    """
    if x.ndim != 2 or x.dtype not in (np.float16, np.float32):
        raise InputError(f"{where}: x is {x.dtype} {x.shape}, expected float32 or float16 (features, regions)")
    if x.size == 0:
        raise InputError(f"{where}: x has {x.shape[1]} regions of {x.shape[0]} features, expected at least one")
    if bbox.shape != (x.shape[1], 4) or bbox.dtype.kind not in "fiu":
        raise InputError(
            f"{where}: bbox is {bbox.dtype} {bbox.shape}, expected numbers ({x.shape[1]}, 4) since x is {x.shape}"
        )
    for name, size in (("image_w", width), ("image_h", height)):
        if size.shape != () or size.dtype.kind not in "fiu" or not 0 < size < np.inf:
            raise InputError(f"{where}: {name} is {reprlib.repr(size.tolist())}, expected a number of pixels above 0")
    for name, array in (("x", x), ("bbox", bbox)):
        if not _finite(array):
            raise InputError(f"{where}: {name} holds NaN or infinity")
    return ImageFeatures(np.array(x.T, order="C"), bbox.astype(np.float32), (float(width), float(height)))


def read_header(path: Path) -> NpzHeader:
    """Reads the shape and type of the features in a file, without the features.

    A broken file has no regions here; :func:`read_npz` says what is wrong with it.
    """

    def read() -> tuple[tuple[int, ...], bool, np.dtype]:
        with zipfile.ZipFile(path) as archive, archive.open("x.npy") as file:
            newer = np.lib.format.read_magic(file) != (1, 0)
            return (np.lib.format.read_array_header_2_0 if newer else np.lib.format.read_array_header_1_0)(file)

    try:
        (feature_size, regions), _, dtype = _retried(read)
    except Exception:  # NumPy and zipfile have a dozen errors for a broken file
        return NpzHeader(0, 0, 0)
    known = dtype in (np.float16, np.float32)
    return NpzHeader(regions, feature_size, dtype.itemsize) if known else NpzHeader(0, 0, 0)


def _retried(read: Callable[[], T], times: int = 5) -> T:
    """Reads up to five times. NumPy parses the header of an array as Python text, and where several threads do so,
    Python 3.11 and 3.12 can fail by chance (https://github.com/python/cpython/issues/106905)."""
    for _ in range(times - 1):
        with suppress(SystemError):
            return read()
    return read()


def _finite(array: np.ndarray) -> bool:
    if array.dtype == np.float16:  # By bits, ten times as fast: infinity and NaN have the largest exponent.
        return bool((array.view(np.uint16) & 0x7FFF).max() < 0x7C00)
    return bool(np.isfinite(array).all())
