"""Makes a packed file of features of the pictures in a folder.

Pictures go through the extractor in groups that depend on nothing but the folder's names, since the last bits of what a
network computes can depend on what is computed together. A process that resumes takes a group anew of which not all was
packed. So a file that was made in one go and one that was made in several have the same bytes.
"""

import os
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from model_space.errors import InputError, one_line
from trainer.data.features.names import ImageId
from trainer.data.features.npz import ImageFeatures
from trainer.data.packing.partial_file import PartialFile
from trainer.data.packing.sources.source import Entry
from trainer.data.pictures.extractor import Extractor, ExtractorSettings
from trainer.data.pictures.reading import read_picture


class Picture(NamedTuple):
    """A picture of a folder."""

    image_id: ImageId
    path: Path
    stamp: int
    """A number that differs if the picture or what makes its features has changed."""
    size: int
    """The bytes of its file."""


def pictures_of(files: dict[ImageId, Path], identity: str) -> list[Picture]:
    """Returns the pictures of some files, whose features something of this identity makes."""
    found = []
    for image_id, path in files.items():
        stat = path.stat()
        stamp = zlib.crc32(repr((identity, path.name, stat.st_size, stat.st_mtime_ns)).encode())
        found.append(Picture(image_id, path, stamp, stat.st_size))
    return found


def extract(
    pictures: list[Picture],
    packed: PartialFile,
    settings: ExtractorSettings,
    extractor: Extractor,
    progress: Callable[[int, int, int], None],
    skipped: Callable[[str], None],
    check_room: Callable[[float], None],
) -> None:
    """Writes the features of pictures, but for those that an earlier process wrote.

    Args:
        pictures: All pictures of the folder, in their order.
        packed: The file that is made.
        settings: Say how many pictures go together, and whether a broken one stops it.
        extractor: Makes the features.
        progress: Is called with the number of images that are packed, the bytes of pictures that were read, and all.
        skipped: Is told why a picture is left out.
        check_room: Is called once with about the number of bytes that are still to be written.

    Raises:
        InputError: If a picture cannot be read, or has features that are not finite.
    """
    done, total = 0, sum(each.size for each in pictures)
    groups = [pictures[i : i + settings.batch_size] for i in range(0, len(pictures), settings.batch_size)]
    room_is_checked = False
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reader = _Reader(pool)
        for group, following in zip(groups, [*groups[1:], []], strict=True):
            known = _known(group, packed)
            read = reader.read(each for each in group if each not in known)
            if any(isinstance(each, Image.Image) for each in read.values()):
                packed.begin()
                read |= reader.read(known)
                known = []
                reader.begin(following)
            for error in read.values():
                if isinstance(error, InputError):
                    if settings.broken == "stop":
                        reader.begin([])
                        raise InputError(f"{error} (data.pictures.broken: skip leaves such pictures out)")
                    skipped(str(error))
            whole = {each: picture for each in group if isinstance(picture := read.get(each), Image.Image)}
            made = dict(zip(whole, _features(extractor, [*whole.values()]), strict=True)) if whole else {}
            for each in group:
                done += each.size
                if each in known:
                    packed.has(each.image_id, each.stamp)
                elif each in made:
                    if not np.isfinite(made[each].features).all():
                        raise InputError(f"{each.path}: its features are not finite")
                    packed.has(each.image_id, each.stamp)
                    packed.add(Entry(str(each.path), each.image_id, each.stamp, done, None), made[each])
            if made and not room_is_checked:
                room_is_checked = True
                check_room(sum(2 * each.features.size for each in made.values()) * (total - done) / max(1, done))
            progress(len(packed.records), done, total)


def _features(extractor: Extractor, pictures: list[Image.Image]) -> list[ImageFeatures]:
    """Returns what an extractor makes of pictures, or says in one line why it cannot."""
    try:
        return extractor(pictures)
    except (
        RuntimeError,
        AssertionError,
        ValueError,
    ) as error:  # a side that no backbone takes; no memory
        raise InputError(f"data.pictures: no features of {len(pictures)} pictures: {one_line(error)}") from None


def _known(group: Iterable[Picture], packed: PartialFile) -> list[Picture]:
    """Returns the pictures of a group that an earlier process wrote next. Others were broken, or are new."""
    known: list[Picture] = []
    for each in group:
        if packed.is_next(each.image_id, each.stamp, after=len(known)):
            known.append(each)
    return known


class _Reader:
    """Reads pictures in threads, those of the next group while the extractor works."""

    def __init__(self, pool: ThreadPoolExecutor):
        self._pool = pool
        self._begun: dict[Picture, Future[Image.Image | InputError]] = {}

    def begin(self, pictures: Iterable[Picture]) -> None:
        """Begins to read some pictures; others that were begun are forgotten."""
        for future in self._begun.values():
            future.cancel()
        self._begun = {each: self._pool.submit(_read, each.path) for each in pictures}

    def read(self, pictures: Iterable[Picture]) -> dict[Picture, Image.Image | InputError]:
        """Returns pictures, or what is wrong with them."""
        reading = {
            each: self._begun.pop(each) if each in self._begun else self._pool.submit(_read, each.path)
            for each in pictures
        }
        return {each: future.result() for each, future in reading.items()}


def _read(path: Path) -> Image.Image | InputError:
    try:
        return read_picture(path)
    except InputError as error:
        return error
