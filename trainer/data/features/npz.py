"""The features of one image in an ``.npz`` file, in the form in which mcan-vqa stores bottom-up features or near it.

The file holds ``x``, features (D, N) of N regions, numbers of any type; ``bbox``, boxes (N, 4) with the corners x1, y1,
x2, y2 in pixels; and ``image_w`` and ``image_h``, the size of the image in pixels. :class:`NpzForm` says what may be
otherwise.
"""

import io
import math
import reprlib
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from model_space.errors import InputError, one_line

T = TypeVar("T")
BoxesForm = Literal["files", "grid", "none"]
"""Where the boxes of regions are from."""

ARRAYS = ("x", "bbox", "image_w", "image_h")
LARGEST = float(np.finfo(np.float32).max)
"""The largest number that packed features have room for."""


class ImageFeatures(NamedTuple):
    """The regions of one image."""

    features: np.ndarray
    """Features (N, D), float16 or float32."""
    boxes: np.ndarray
    """Boxes (N, 4), float32, with the corners x1, y1, x2, y2 in pixels."""
    size: tuple[float, float]
    """Width and height of the image in pixels."""


@dataclass(frozen=True)
class NpzForm:
    """How the files of a data set differ from mcan-vqa's."""

    transposed: bool = False
    """Whether the features of a region come last: ``x`` (N, D)."""
    boxes: BoxesForm = "files"
    """Whether boxes are in the files, are the cells of a grid, or there are none (then all are zero). Of a grid ``x``
    is (D, rows, columns), or (D, N) for as many rows as columns."""
    names: tuple[str, str, str, str] = field(default=ARRAYS, repr=False)
    """What features, boxes, width and height are called where they are from, for error messages."""

    def regions_of(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Returns the number D of features of a region, and that of regions, of ``x`` in a shape; None for others."""
        if self.transposed:
            shape = (*shape[-1:], *shape[:-1])
        if len(shape) == 2:
            return shape[0], shape[1]
        return (shape[0], shape[1] * shape[2]) if len(shape) == 3 and self.boxes == "grid" else None

    def __str__(self) -> str:
        """Returns the shape that is expected of ``x``."""
        regions = "rows, columns" if self.boxes == "grid" else "regions"
        return f"({regions}, features)" if self.transposed else f"(features, {regions})"


class NpzHeader(NamedTuple):
    """The shape and type of the features in a file."""

    regions: int
    """The number of regions; 0 if the file is broken."""
    feature_size: int
    """The number of features of a region."""
    item_size: int
    """The bytes of one number once it is read: 2 for float16, else 4."""


MCAN = NpzForm()
"""The form of mcan-vqa's files."""


def read_npz(file: Path | bytes, where: str | None = None, form: NpzForm = MCAN) -> ImageFeatures:
    """Reads the features of one image.

    Args:
        file: The path of the file, or its content.
        where: Names the file in error messages; by default its path.
        form: What is in it.

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
            _check_listing(content, len(archive.files))
            return [archive.get(f"{name}.npy") for name in ARRAYS]

    try:
        found = retried(read)
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # NumPy and zipfile have a dozen errors for a broken file
        raise InputError(f"{where}: broken, or not an .npz of plain arrays: {one_line(error)}") from None
    for name, array in zip(ARRAYS, found):
        if array is not None and not isinstance(array, np.ndarray):  # NpzFile gives the bytes of what is no array.
            raise InputError(f"{where}: broken, or not an .npz of plain arrays: {name}.npy is no array")
    x, bbox, width, height = found
    return image_features(x, bbox, width, height, where, form)


def image_features(
    x: np.ndarray | None,
    bbox: np.ndarray | None,
    width: np.ndarray | None,
    height: np.ndarray | None,
    where: str,
    form: NpzForm = MCAN,
) -> ImageFeatures:
    """Checks the arrays of an ``.npz`` file and puts them into the form in which they are used.

    Args:
        x: Features (D, N), any type of numbers, or in another form.
        bbox: Boxes (N, 4), any type of numbers; read only where boxes are in the files.
        width: The width of the image in pixels, of shape (); None where it is not known. Then that of the grid or of
            all boxes is taken.
        height: The height of the image in pixels, likewise.
        where: Names the file in error messages.
        form: What the arrays are.

    Raises:
        InputError: If an array has another type or shape, or holds NaN or infinity.
    """
    if x is None:
        raise InputError(f"{where}: no array '{form.names[0]}'; expected {', '.join(form.names)}")
    of_regions = form.regions_of(x.shape)
    if of_regions is None or x.dtype.kind not in "fiu":
        raise InputError(f"{where}: {form.names[0]} is {x.dtype} {x.shape}, expected numbers {form}")
    (feature_size, regions), shape = of_regions, x.shape
    if x.size == 0:
        raise InputError(
            f"{where}: {form.names[0]} has {regions} regions of {feature_size} features, expected at least one"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
        x = x.astype(np.float16 if x.dtype.kind == "f" and x.dtype.itemsize == 2 else np.float32, copy=False)
    if form.transposed:
        x = np.moveaxis(x, -1, 0)
    if form.boxes == "files":
        boxes = _boxes_of_file(bbox, x, where, form)
        extent = tuple(np.maximum(boxes[:, 2:].max(0), 1).tolist())
    elif form.boxes == "grid":
        rows, columns = x.shape[1:] if x.ndim == 3 else 2 * (math.isqrt(regions),)
        if rows * columns != regions:
            raise InputError(
                f"{where}: {form.names[0]} is {shape}, whose {regions} regions are no square; expected {form}"
            )
        extent = float(columns), float(rows)
    else:
        boxes, extent = np.zeros((regions, 4), np.float32), (1.0, 1.0)
    size = _size_of_file(width, height, where, form) or extent
    if form.boxes == "grid":
        boxes = cells(rows, columns, size)
    x = x.reshape(feature_size, regions)
    for name, array in zip(form.names, (x, boxes)):
        if not _finite(array):
            raise InputError(f"{where}: {name} holds NaN or infinity")
    return ImageFeatures(np.array(x.T, order="C"), boxes, size)


def _boxes_of_file(bbox: np.ndarray | None, x: np.ndarray, where: str, form: NpzForm) -> np.ndarray:
    features, boxes, *_ = form.names
    if bbox is None:
        raise InputError(
            f"{where}: no array '{boxes}'; expected {', '.join(form.names)}, or the setting data.boxes: grid or none, "
            "which is of features without boxes"
        )
    if bbox.shape != (x.shape[1], 4) or bbox.dtype.kind not in "fiu":
        turned = form.names is ARRAYS and bbox.shape == (x.shape[0], 4)
        shape = x.shape[::-1] if form.transposed else x.shape
        raise InputError(
            f"{where}: {boxes} is {bbox.dtype} {bbox.shape}, expected numbers ({x.shape[1]}, 4) since {features} is "
            f"{shape}" + (", or the other setting of data.transposed, which says what comes first" if turned else "")
        )
    with np.errstate(over="ignore"):
        return bbox.astype(np.float32)


def _size_of_file(
    width: np.ndarray | None, height: np.ndarray | None, where: str, form: NpzForm
) -> tuple[float, float] | None:
    if width is None and height is None:
        return None
    for name, size in zip(form.names[2:], (width, height)):
        if size is None:
            raise InputError(f"{where}: no array {name!r}; expected {', '.join(form.names)}")
        if size.shape != () or size.dtype.kind not in "fiu" or not 0 < size <= LARGEST:
            raise InputError(f"{where}: {name} is {reprlib.repr(size.tolist())}, expected a number of pixels above 0")
    return float(width), float(height)  # type: ignore[arg-type]  # neither is None


def cells(rows: int, columns: int, size: tuple[float, float]) -> np.ndarray:
    """Returns the boxes (rows * columns, 4), float32, of the cells of a grid, row by row."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    corners = np.stack([x, y, x + 1, y + 1], axis=1)
    return (corners * np.tile(np.divide(size, (columns, rows)), 2)).astype(np.float32)


def read_header(path: Path, form: NpzForm = MCAN) -> NpzHeader:
    """Reads the shape and type of the features in a file, without the features.

    A broken file has no regions here; :func:`read_npz` says what is wrong with it.
    """

    def read() -> tuple[tuple[int, ...], bool, np.dtype]:
        with zipfile.ZipFile(path) as archive, archive.open("x.npy") as file:
            newer = np.lib.format.read_magic(file) != (1, 0)
            return (np.lib.format.read_array_header_2_0 if newer else np.lib.format.read_array_header_1_0)(file)

    try:
        shape, _, dtype = retried(read)
    except Exception:  # NumPy and zipfile have a dozen errors for a broken file
        return NpzHeader(0, 0, 0)
    of_regions = form.regions_of(shape)
    if of_regions is None or dtype.kind not in "fiu":
        return NpzHeader(0, 0, 0)
    feature_size, regions = of_regions
    return NpzHeader(regions, feature_size, 2 if dtype.kind == "f" and dtype.itemsize == 2 else 4)


def _check_listing(content: bytes, listed: int) -> None:
    """Checks that a zip lists as many members as it says it has: its listing has no checksum, and one that hides a
    member would hide, for example, how large the image is."""
    end = content.rfind(b"PK\x05\x06")
    stated = int.from_bytes(content[end + 10 : end + 12], "little")
    if listed != stated:
        raise ValueError(f"{listed} members are listed, where there are {stated}")


def retried(read: Callable[[], T], times: int = 5) -> T:
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
