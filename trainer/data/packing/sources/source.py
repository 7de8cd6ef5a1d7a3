"""A source of features: which images it has, in an order that is always the same, and how each is read."""

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from model_space.errors import InputError
from trainer.data.features.names import ImageId, image_of
from trainer.data.features.npz import ImageFeatures

IsPacked = Callable[[ImageId, int], bool]
"""Says whether an image is packed already, from its id and its stamp."""


class Entry(NamedTuple):
    """An image of a source."""

    where: str
    """Where the image is, for error messages."""
    image_id: ImageId
    stamp: int
    """A number that differs if the image has changed."""
    end: int
    """The bytes of the source up to the end of this image."""
    read: Callable[[], ImageFeatures] | None
    """Reads the image; None if it is packed already."""


class Source(NamedTuple):
    """What is packed into one file."""

    nbytes: int
    """The size in bytes."""
    packed_nbytes: float
    """About how many bytes it takes when it is packed."""
    entries: Callable[[IsPacked], Iterator[Entry]]
    """Yields all images, always in the same order."""


def stamp_of(*what: str | float) -> int:
    """Returns a number that differs if any of these do."""
    return zlib.crc32(repr(what).encode())


def image_named(name: str, where: str) -> ImageId:
    """Returns the id of an image by a name that stands in a file.

    Raises:
        InputError: If the name is empty, or has a zero in it, as no file's name has.
    """
    if not name or "\0" in name:
        raise InputError(f"{where}: {name[:20]!r} is no image: expected its number, or its name")
    return image_of(name)
