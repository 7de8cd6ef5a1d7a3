"""A folder with files of each image: ``.npz``, or one of the forms that have a file of their own here."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from trainer.data.features.folder import feature_files
from trainer.data.features.names import ImageId
from trainer.data.features.npz import ImageFeatures, NpzForm, read_header, read_npz
from trainer.data.packing.sources.source import Entry, IsPacked, Source, stamp_of

SAMPLE = 32
"""Files of a folder by whose sizes that of the packed file is estimated."""


def open_npz_folder(folder: Path, form: NpzForm) -> Source:
    """Opens a folder of ``.npz`` files."""
    images = {image_id: [path] for image_id, path in feature_files(folder).items()}
    source = open_files(images, partial(read_npz, form=form))
    files = [path for paths in images.values() for path in paths]
    files = files[:: max(1, len(files) // SAMPLE)]
    headers = [read_header(path, form) for path in files]
    packed = sum(2 * header.regions * header.feature_size for header in headers)
    of_files = sum(path.stat().st_size for path in files)
    return source._replace(packed_nbytes=source.nbytes * packed / max(1, of_files))


def open_files(images: dict[ImageId, list[Path]], read: Callable[..., ImageFeatures]) -> Source:
    """Opens images each of which has files of its own, with float32 in the first of them.

    Args:
        images: The files of each image.
        read: Reads an image, of its files.
    """
    nbytes = sum(path.stat().st_size for paths in images.values() for path in paths)
    packed = sum(paths[0].stat().st_size for paths in images.values()) / 2
    return Source(nbytes, packed, partial(_entries, images, read))


def _entries(
    images: dict[ImageId, list[Path]], read: Callable[..., ImageFeatures], is_packed: IsPacked
) -> Iterator[Entry]:
    end = 0
    for image_id, paths in images.items():
        stats = [path.stat() for path in paths]
        end += sum(stat.st_size for stat in stats)
        what = [each for path, stat in zip(paths, stats) for each in (path.name, stat.st_size, stat.st_mtime_ns)]
        stamp = stamp_of(*what)
        yield Entry(str(paths[0]), image_id, stamp, end, None if is_packed(image_id, stamp) else partial(read, *paths))
