"""Features of images: N regions an image, each of D numbers and with a box; one ``.npz`` file an image, or packed.

An ``.npz`` is as mcan-vqa stores bottom-up features: ``x`` (D, N) features, ``bbox`` (N, 4) corners x1, y1, x2, y2 in
pixels, ``image_w`` and ``image_h`` in pixels. A folder of them may be large, so there are two ways to read it: small
ones are held in memory, of others every batch reads its files. A file that :mod:`trainer.data.packing` made of a folder
is mapped into memory, and the operating system keeps of it what fits.
"""

import io
import os
import reprlib
import weakref
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import accumulate, chain, count
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model_space.errors import InputError

T = TypeVar("T")

IN_MEMORY = 2**30  # bytes of files: up to here they are held in memory
PACKED = ".safetensors"
PACKED_FORMAT = "vqa features 1"
IN_HALF = float(np.finfo(np.float16).max)
PACKED_ARRAYS = ("features", "boxes", "counts", "image_ids", "sizes")
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".tsv")
"""what is read in order only, and so has to be packed first"""
ARRAYS = ("x", "bbox", "image_w", "image_h")
NOT_READ = {
    (".h5", ".hdf5"): "HDF5, whose image ids are in a pickle, which could run anything",
    (".mdb", ".lmdb"): "LMDB, whose values are pickles or of a form of one's own",
    (".pkl", ".pickle", ".pth", ".pt", ".npy"): "not a form that says which features are whose without running code",
    (".zip", ".rar", ".7z", ".bz2", ".xz", ".zst"): "an archive of another kind",
}


class Image(NamedTuple):
    features: np.ndarray
    """(N, D) float16 or float32"""
    boxes: np.ndarray
    """(N, 4) float32, corners x1, y1, x2, y2 in pixels"""
    size: tuple[float, float]
    """width and height in pixels"""


class Packed:
    """The regions of many images in a row, in memory or mapped from a file."""

    def __init__(
        self, features: np.ndarray, boxes: np.ndarray, counts: np.ndarray, file: tuple[int, int] | None = None
    ):
        """Takes features (R + 1, D) and boxes (R + 1, 4), in both the last row zero, regions an image (I,), and of
        mapped features the file's descriptor and where they begin in it."""
        self._features, self._boxes, self._file = features, boxes, file
        self.feature_size = features.shape[1]
        self.dtype = torch.float16 if features.dtype == np.float16 else torch.float32
        self.counts = torch.from_numpy(counts)
        self._starts = self.counts.cumsum(0) - self.counts
        self._announced = torch.zeros_like(self.counts, dtype=torch.bool)

    def gather(self, images: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """The first regions (B, longest, D) and boxes (B, longest, 4) of images (B,), zero where there are none."""
        starts, counts = self._starts[images, None], self.counts[images, None]
        if self._file and not self._announced[images].all():
            self._announce(images)
        place, padding = torch.arange(longest), len(self._features) - 1
        # What is not there is the row of zeros.
        index = torch.where(place < counts, starts + place, padding)
        # In memory of NumPy's, whose large arrays lie in huge pages: to have it would else take longer than to fill it.
        regions = torch.from_numpy(np.empty((*index.shape, self.feature_size), self._features.dtype))
        torch.index_select(torch.from_numpy(self._features), 0, index.view(-1), out=regions.view(-1, self.feature_size))
        return regions, torch.from_numpy(self._boxes.take(index.numpy(), axis=0))

    def _announce(self, images: Tensor) -> None:
        """Has the system read what a batch needs and is not in memory, all of it at a time and in the order that suits
        the disk; else it would find out page by page, and wait for each."""
        file, begin = self._file
        row = self._features.itemsize * self.feature_size
        for start, length in zip(self._starts[images].tolist(), self.counts[images].tolist()):
            os.posix_fadvise(file, begin + row * start, row * length, os.POSIX_FADV_WILLNEED)
        # What fits into half of the memory is taken to stay there.
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._announced[images] = self._features.nbytes < memory / 2


class NpzFiles:
    """One ``.npz`` an image, read whenever a batch asks for it."""

    def __init__(self, paths: list[Path], counts: np.ndarray, feature_size: int, dtype: torch.dtype):
        """Takes what the files' heads say: regions an image (I,), features a region, and the type of a batch."""
        self._paths, self.feature_size, self.dtype = paths, feature_size, dtype
        self.counts = torch.from_numpy(counts)

    def gather(self, images: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """As :meth:`Packed.gather`."""
        regions = torch.zeros(len(images), longest, self.feature_size, dtype=self.dtype)
        boxes = torch.zeros(len(images), longest, 4)
        for row, image in enumerate(images.tolist()):
            try:
                features, corners, _ = read_npz(self._paths[image])
            except InputError as error:
                raise ReadingError(str(error)) from None
            if features.shape != (self.counts[image], self.feature_size):
                raise ReadingError(f"{self._paths[image]}: has changed since the start, when its head was read")
            count = min(longest, len(features))
            regions[row, :count] = torch.from_numpy(features[:count])
            boxes[row, :count] = torch.from_numpy(corners[:count])
        return regions, boxes


class ReadingError(InputError):
    """A mistake that a batch found, perhaps in a process of a loader.

    PyTorch raises it in the process of the training again, with the whole traceback for a message: the last line alone
    is kept.
    """

    def __init__(self, message: str):
        super().__init__(message.strip().rpartition("\n")[2].removeprefix(f"{__name__}.{type(self).__name__}: "))


class Features:
    """The features of certain images, from one source or several."""

    def __init__(self, sources: Sequence[Packed | NpzFiles], source: Tensor, place: Tensor, counts: Tensor):
        """Takes of each image the number of its source (I,), its place there (I,), and how many regions of it are
        taken (I,)."""
        self._sources, self._source, self._place = sources, source, place
        self.counts = counts

    @classmethod
    def joined(cls, parts: Sequence["Features"]) -> "Features":
        """The images of several, one after the other."""
        first = accumulate((len(part._sources) for part in parts), initial=0)
        return cls(
            [source for part in parts for source in part._sources],
            torch.cat([part._source + offset for part, offset in zip(parts, first)]),
            torch.cat([part._place for part in parts]),
            torch.cat([part.counts for part in parts]),
        )

    @property
    def feature_size(self) -> int:
        return self._sources[0].feature_size

    @property
    def read_by_batch(self) -> bool:
        """Whether every batch reads files, which can be done ahead."""
        return any(isinstance(source, NpzFiles) for source in self._sources)

    def gather(self, images: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Regions (B, longest, D), float16 or float32, and boxes (B, longest, 4) float32 of images (B,), zero where
        there are none; ``longest`` is at least their largest count."""
        source, place = self._source[images], self._place[images]
        if (source == source[0]).all():
            return self._sources[source[0]].gather(place, longest)
        regions = torch.zeros(len(images), longest, self.feature_size, dtype=self._dtype)
        boxes = torch.zeros(len(images), longest, 4)
        for number in source.unique().tolist():
            rows = source == number
            regions[rows], boxes[rows] = (
                part.to(whole.dtype)
                for part, whole in zip(self._sources[number].gather(place[rows], longest), (regions, boxes))
            )
        return regions, boxes

    @property
    def _dtype(self) -> torch.dtype:
        return max((source.dtype for source in self._sources), key=lambda dtype: dtype.itemsize)


def open_features(
    paths: Sequence[Path], first_questions: dict[int, int], questions_path: str | Path, max_regions: int
) -> Features:
    """The features of the images of a split, in the order of ``first_questions`` (image id → a question about it).

    Each path is a folder of ``.npz``, whose images' ids are the numbers after the last ``_`` of the files' names, up to
    the first ``.`` after it; or a packed file. Where both are there, ``X`` and ``X.safetensors``, the second is read.

    Raises:
        InputError: a file is missing, broken or does not fit the others, or an image has none or two.
    """
    sources: list[Packed | NpzFiles] = []
    places: dict[int, tuple[int, int]] = {}  # image id → its source and its place there
    read: list[Path] = []
    for path in map(readable, paths):
        packed = path.suffix == PACKED
        if packed:
            source, image_ids = open_packed(path)
            listing = dict(zip(image_ids.tolist(), count()))
        else:
            listing = feature_files(path)
        wanted = [image_id for image_id in first_questions if image_id in listing]
        if not wanted:
            continue
        if twice := [image_id for image_id in wanted if image_id in places]:
            other = read[places[twice[0]][0]]
            raise InputError(f"{path}: features of image {twice[0]} are also in {other}: expected them once")
        if not packed:
            source = _open_folder(path, listing, wanted, max_regions)
        if sources and source.feature_size != sources[0].feature_size:
            raise InputError(
                f"{path}: features are {source.feature_size} wide, those of {read[0]} are {sources[0].feature_size}"
            )
        places |= zip(wanted, ((len(sources), listing[each] if packed else n) for n, each in enumerate(wanted)))
        sources.append(source)
        read.append(path)
    if missing := [image_id for image_id in first_questions if image_id not in places]:
        raise InputError(
            f"{' and '.join(map(str, paths))}: no features of image {missing[0]}, which question "
            f"{first_questions[missing[0]]} of {questions_path} is about (images missing: {len(missing)}); "
            f"expected a file like COCO_train2014_{missing[0]:012d}.jpg.npz"
        )
    source, place = torch.tensor([places[image_id] for image_id in first_questions]).unbind(1)
    counts = torch.empty_like(place)
    for number, each in enumerate(sources):
        counts[source == number] = each.counts[place[source == number]].clamp(max=max_regions)
    return Features(sources, source, place, counts)


def readable(path: Path) -> Path:
    """What is read where the settings name ``path``: the packed file beside it if there is one, else a folder.

    Raises:
        InputError: it is a file that has to be packed first, or that is not read at all.
    """
    packed = packed_path(path)
    if packed.is_file():
        return packed
    if path.name.endswith(ARCHIVES) and path.is_file():
        raise InputError(f"{path}: can be read in order only: make {packed.name} of it with launch.py --pack SETTINGS")
    refuse_unknown(path)
    return path


def packed_path(path: Path) -> Path:
    """Where the packed form of a folder or an archive stands: beside it, ``train2014.safetensors``."""
    if path.suffix == PACKED:
        return path
    ending = next((ending for ending in ARCHIVES if path.name.endswith(ending)), "")
    return path.with_name(path.name.removesuffix(ending) + PACKED)


def refuse_unknown(path: Path) -> None:
    """Says of a file in another form which one it is.

    Raises:
        InputError: it is one.
    """
    for endings, form in NOT_READ.items():
        if path.name.endswith(endings) and path.exists():
            raise InputError(
                f"{path}: features in {form}: not read; expected a folder of .npz, or with launch.py --pack a .tar or "
                ".tar.gz of them or bottom-up attention's .tsv"
            )


def feature_files(folder: Path) -> dict[int, Path]:
    """The files of a folder by the id of their image.

    Raises:
        InputError: no such folder, or two files of one image.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot read the folder of features: {error.strerror}") from None
    files: dict[int, Path] = {}
    for name in names:
        if (image_id := image_of(name)) is not None:
            path = folder / name
            if (other := files.setdefault(image_id, path)) is not path:
                raise InputError(f"{folder}: two files of image {image_id}: {other.name} and {name}")
    return files


def image_of(name: str) -> int | None:
    """The id of the image whose features are in a file of this name; None for other files.

    >>> image_of("COCO_train2014_000000000009.jpg.npz")
    9
    """
    number = name.rpartition("_")[2].partition(".")[0]
    return int(number) if name.endswith(".npz") and number.isdecimal() else None


def _open_folder(folder: Path, files: dict[int, Path], wanted: list[int], max_regions: int) -> Packed | NpzFiles:
    """Reads the files of these images now if they are small, else their heads."""
    paths = [files[image_id] for image_id in wanted]
    if sum(path.stat().st_size for path in paths) <= IN_MEMORY:
        return _read_all(paths, max_regions)
    heads = dict(zip(files, read_heads(folder, list(files.values())).tolist()))
    of_wanted = [heads[image_id] for image_id in wanted]
    for path, (regions, width, _) in zip(paths, of_wanted):
        if not regions:
            read_npz(path)  # says what is wrong with it
        if width != of_wanted[0][1]:
            raise InputError(f"{path}: x has {width} features a region, {paths[0].name} has {of_wanted[0][1]}")
    regions, widths, sizes = np.array(of_wanted).T
    return NpzFiles(paths, regions, int(widths[0]), torch.float16 if sizes.max() == 2 else torch.float32)


def _read_all(paths: list[Path], max_regions: int) -> Packed:
    """Features stay float16 where every file has float16."""
    features, boxes = [], []
    for path in paths:
        image = read_npz(path)
        if features and image.features.shape[1] != features[0].shape[1]:
            raise InputError(
                f"{path}: x has {image.features.shape[1]} features a region, {paths[0].name} has {features[0].shape[1]}"
            )
        features.append(image.features[:max_regions])
        boxes.append(image.boxes[:max_regions])
    counts = np.array([len(image) for image in features])
    features.append(np.zeros_like(features[0][:1]))
    boxes.append(np.zeros_like(boxes[0][:1]))
    return Packed(np.concatenate(features), np.concatenate(boxes), counts)


def read_heads(folder: Path, paths: list[Path]) -> np.ndarray:
    """Regions, width and bytes a number of each file (I, 3), from the heads of its arrays; zeros for a broken file.

    What was read stands in ``X.heads.npy`` beside the folder, where that can be written, and is read again from there
    while no file has changed.
    """
    stats = [path.stat() for path in paths]
    now = np.array([(int(image_of(path.name)), stat.st_size, stat.st_mtime_ns) for path, stat in zip(paths, stats)])
    cache = folder.with_name(folder.name + ".heads.npy")
    try:
        kept = np.load(cache, allow_pickle=False)
        if kept.shape == (len(paths), 6) and (kept[:, :3] == now).all():
            return kept[:, 3:]
    except (OSError, ValueError, EOFError):
        pass  # there is none yet, or a broken one
    # By threads: what one waits for the disk, others use.
    with ThreadPoolExecutor(8) as pool:
        parts = [paths[start : start + 256] for start in range(0, len(paths), 256)]
        heads = np.array([*chain.from_iterable(pool.map(lambda part: [*map(read_head, part)], parts))])
    partial = cache.with_name(f"{cache.name}.{os.getpid()}")
    with suppress(OSError):  # a folder that is read alone
        with partial.open("wb") as file:
            np.save(file, np.hstack([now, heads]))
        partial.replace(cache)
    return heads


def read_head(path: Path) -> tuple[int, int, int]:
    """Regions, width and bytes a number of a file; zeros if it is broken."""

    def read() -> tuple[tuple[int, ...], bool, np.dtype]:
        with zipfile.ZipFile(path) as archive, archive.open("x.npy") as file:
            newer = np.lib.format.read_magic(file) != (1, 0)
            return (np.lib.format.read_array_header_2_0 if newer else np.lib.format.read_array_header_1_0)(file)

    try:
        (width, regions), _, dtype = _again(read)
        return (regions, width, dtype.itemsize) if dtype in (np.float16, np.float32) else (0, 0, 0)
    except Exception:  # NumPy and zipfile have a dozen errors for a broken file; read_npz says which, where it is read
        return 0, 0, 0


def open_packed(path: Path) -> tuple[Packed, np.ndarray]:
    """The regions of a packed file, mapped into memory, and the ids of its images (I,).

    Raises:
        InputError: not such a file, or cut short.
    """
    arrays = packed_arrays(path)
    file = None
    if hasattr(os, "posix_fadvise"):  # not on macOS
        descriptor = os.open(path, os.O_RDONLY)
        file = descriptor, 8 + int.from_bytes(os.pread(descriptor, 8, 0), "little")
    packed = Packed(arrays["features"], arrays["boxes"], arrays["counts"], file)
    if file:
        weakref.finalize(packed, os.close, file[0])
    return packed, arrays["image_ids"]


def packed_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a packed file, mapped into memory.

    ``features`` (R + P, D) float16 and ``boxes`` (R + P, 4) float32, where the last P rows are zero, one to four of
    them; ``counts`` (I,) and ``image_ids`` (I,) int64; ``sizes`` (I, 2) float32, width and height in pixels.

    Raises:
        InputError: not such a file, or cut short.
    """
    with _opened(path) as file:
        arrays = {name: file.get_tensor(name).numpy() for name in PACKED_ARRAYS}
    rows, images = arrays["counts"].sum(), len(arrays["counts"])
    if not rows < len(arrays["features"]) == len(arrays["boxes"]) or len(arrays["image_ids"]) != images:
        raise InputError(f"{path}: its arrays do not fit each other: delete it, and launch.py --pack makes it again")
    return arrays


def packed_checksums(path: Path) -> dict[str, str]:
    """The CRC-32 of each array that a packed file was made with, as 8 hexadecimal digits.

    Raises:
        InputError: not such a file, or cut short.
    """
    with _opened(path) as file:
        return {name: file.metadata().get(f"crc32 {name}", "none") for name in PACKED_ARRAYS}


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("format") != PACKED_FORMAT:
                raise InputError(f"{path}: not a file of packed features: expected one made by launch.py --pack")
            yield file
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: broken, or not a file of packed features: {one_line(error)}") from None


def read_image(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One image's features (N, D), float16 or float32, and boxes (N, 4) float32 in pixels."""
    return read_npz(path)[:2]


def read_npz(file: Path | bytes, where: Path | str | None = None) -> Image:
    """The features of one image.

    Args:
        file: a path, or what stands in a file.
        where: names it in errors, for what is not a path.

    Raises:
        InputError: it is broken, lacks an array, or has one of another type or shape, or with NaN.
    """
    where = where or file

    def read() -> list[np.ndarray | None]:
        # Whole, then array by array: np.load goes back to the file for every part of it, which takes twice as long.
        content = file if isinstance(file, bytes) else file.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            members = (io.BytesIO(archive.read(f"{name}.npy")) if f"{name}.npy" in names else None for name in ARRAYS)
            return [member and np.lib.format.read_array(member, allow_pickle=False) for member in members]

    try:
        found = _again(read)
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # NumPy and zipfile have a dozen errors for a broken file
        raise InputError(f"{where}: broken, or not an .npz of plain arrays: {one_line(error)}") from None
    for name, array in zip(ARRAYS, found):
        if array is None:
            raise InputError(f"{where}: no array {name!r}; expected {', '.join(ARRAYS)}")
    return checked(*found, where)


def _again(read: Callable[[], T], times: int = 5) -> T:
    """NumPy reads the head of an array as Python text, which in Python 3.11 and 3.12 can fail by chance where several
    threads do (https://github.com/python/cpython/issues/106905)."""
    for _ in range(times - 1):
        with suppress(SystemError):
            return read()
    return read()


def checked(x: np.ndarray, bbox: np.ndarray, width: np.ndarray, height: np.ndarray, where: Path | str) -> Image:
    """The features of one image, of the arrays of an ``.npz``.

    Raises:
        InputError: one is of another type or shape, or holds NaN; ``where`` names the file.
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
    return Image(np.array(x.T, order="C"), bbox.astype(np.float32), (float(width), float(height)))


def _finite(array: np.ndarray) -> bool:
    if array.dtype == np.float16:  # by its bits, ten times as fast: the largest exponent is that of infinity and NaN
        return bool((array.view(np.uint16) & 0x7FFF).max() < 0x7C00)
    return bool(np.isfinite(array).all())


def one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
