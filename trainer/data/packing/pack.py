"""Packs the features of a folder or a file into one file, which batches then map into memory.

The packed file is a safetensors file: it is mapped without a copy, holds no code, and its data can be written before
its header is known. :func:`trainer.data.features.packed.packed_arrays` says what is in it. Its metadata hold a CRC-32
of every array.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from model_space.errors import InputError
from model_space.files import partial_path
from trainer.data.features.folder import feature_files
from trainer.data.features.names import ImageId, in_order, positions
from trainer.data.features.npz import MCAN, NpzForm
from trainer.data.features.packed import extractor_of, image_ids_of, packed_arrays
from trainer.data.features.paths import ending_of, packed_path
from trainer.data.packing.partial_file import PartialFile, journal_path
from trainer.data.packing.reading import read_images
from trainer.data.packing.sources.open import open_source
from trainer.data.pictures.extract import extract, pictures_of
from trainer.data.pictures.extractor import identity, other_features, refuse_others
from trainer.data.pictures.grid import GridSettings
from trainer.data.pictures.reading import ENDINGS, is_whole, list_pictures
from trainer.data.pictures.regions import RegionsSettings
from trainer.data.pictures.settings import PicturesSettings

SPARE = 2**26
"""The bytes of the disk that should stay free."""

Progress = Callable[[int, int, int], None]
"""Is called with the number of images that are packed, the bytes of the source that were read, and all its bytes."""


def pack(source: Path, progress: Progress = lambda images, done, total: None, form: NpzForm = MCAN) -> Path:
    """Packs features, unless they are packed already. It resumes where an earlier call was ended.

    Args:
        source: A folder or a file of one of the forms of :mod:`trainer.data.packing.sources`.
        progress: Is called after every image.
        form: What is in ``.npz`` files, and whether mmf's features have boxes.

    Returns:
        The packed file.

    Raises:
        InputError: If the source or one of its images is wrong, or the disk is full. What is packed so far is kept.
    """
    target = packed_path(source)
    if target.is_file():
        _check_same_images(source, target)
        _remove_leftovers(target)
        return target
    opened = open_source(source, form)
    with PartialFile(target) as packed, _one_thread(), _resumable(packed):
        if opened.nbytes:
            _check_room(target, opened.packed_nbytes - packed.size)
        for entry, image in read_images(opened.entries(packed.has)):
            if image:
                packed.add(entry, image)
            progress(len(packed.records), entry.end, opened.nbytes)
        if not packed.records:
            files = ": expected files like COCO_train2014_000000000009.jpg.npz" if source.is_dir() else ""
            raise InputError(f"{source}: no features in it{files}")
        packed.finish()
    return target


def pack_pictures(
    folder: Path,
    settings: PicturesSettings,
    progress: Progress = lambda images, done, total: None,
    skipped: Callable[[str], None] = lambda why: None,
) -> Path:
    """Packs the features of a folder's pictures, unless they are packed already. It resumes where it was ended.

    Args:
        folder: The pictures.
        settings: Say what makes the features.
        progress: Is called after every group of pictures.
        skipped: Is told why a picture is left out.

    Returns:
        The packed file.

    Raises:
        InputError: If there are no pictures, one cannot be read, the extractor cannot be had, or the disk is full. What
            is packed so far is kept.
    """
    target = packed_path(folder)
    files = list_pictures(folder)
    if not files:
        raise InputError(f"{folder}: no pictures in it: expected {', '.join(ENDINGS)}")
    if target.is_file():
        _check_same_pictures(folder, files, settings, target)
        _remove_leftovers(target)
        return target
    extractor = settings.extractor()
    made_by = identity(settings, extractor)
    with PartialFile(target) as packed, _resumable(packed):
        room = partial(_check_room, target)
        extract(pictures_of(files, made_by), packed, settings, extractor, progress, skipped, room)
        if not packed.records:
            raise InputError(f"{folder}: none of its {len(files)} pictures can be read")
        packed.finish(made_by)
    return target


def _remove_leftovers(target: Path) -> None:
    """Removes what a process left that was killed after the file was whole."""
    for leftover in (partial_path(target), journal_path(target)):
        leftover.unlink(missing_ok=True)


@contextmanager
def _resumable(packed: PartialFile) -> Iterator[None]:
    """Says in words that the disk is full, and that the same command resumes."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{packed.target}: {error.strerror or error} after {len(packed.records)} images: make room, and the same "
            "command resumes"
        ) from None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Lets torch compute in one thread: its work here is small, and the readers need the other cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_room(target: Path, needed: float) -> None:
    """Checks, as far as can be estimated, that what is still to be written fits on the disk."""
    missing = needed + SPARE - shutil.disk_usage(target.parent).free
    if missing > 0:
        raise InputError(
            f"{target}: takes about {needed / 1e9:.1f} GB, for which {missing / 1e9:.1f} GB are missing on the disk: "
            "make room, or name features on another disk"
        )


def _check_same_images(source: Path, target: Path) -> None:
    """Checks that a folder has no image that its packed file lacks."""
    if source.is_dir():
        packed, there = positions(image_ids_of(packed_arrays(target))), feature_files(source, ending_of(source))
        if new := there.keys() - packed.keys():
            raise InputError(
                f"{target}: made when {source} had not yet {len(new)} of its images, such as {in_order(new)[0]}: "
                "delete it to pack all"
            )


def _check_same_pictures(folder: Path, files: dict[ImageId, Path], settings: PicturesSettings, target: Path) -> None:
    """Checks that a packed file was made of these pictures as the settings say. Those that it lacks may be broken."""
    made_by = extractor_of(target)
    if made_by is None:
        raise InputError(f"{target}: features that were not made of pictures: delete it to make it anew")
    refuse_others(target, made_by, settings)
    # Weights of a hub have a name, which was compared; those of a file are compared themselves.
    of_file = isinstance(settings, GridSettings | RegionsSettings) and settings.weights != "hub"
    if of_file and identity(settings, settings.extractor()) != made_by:
        raise other_features(target, made_by, settings)
    packed = positions(image_ids_of(packed_arrays(target)))
    missing = [path for image_id, path in files.items() if image_id not in packed]
    if new := [path for path in missing if settings.broken == "stop" or is_whole(path)]:
        raise InputError(
            f"{target}: made when {folder} had not yet {len(new)} of its pictures, such as {new[0].name}: delete it to "
            "pack all"
        )
