"""The ids of images: numbers, as in VQA, or names."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

ImageId = int | str
"""The id of an image: a number, or a name without the ending of a picture."""

PICTURE = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)
COCO = re.compile(r"COCO_\w+_(\d{12})")
"""The names of the pictures of COCO, whose images VQA-v2 is about and knows by number."""
UNREADABLE = "surrogateescape"
"""How Python has the bytes of a file's name that are no UTF-8."""
DIGITS = 18
"""The most digits of a number, so that 64 bits hold it: a longer row of digits is a name."""


def image_of(name: str) -> ImageId:
    """Returns the id of an image by its name, which may be a number, or that of a picture.

    Example:
        >>> image_of("17"), image_of("COCO_val2014_000000000042.jpg"), image_of("street/photo_17.jpg")
        (17, 42, 'street/photo_17')
    """
    name = PICTURE.sub("", name)
    coco = COCO.fullmatch(PurePosixPath(name).name)
    number = coco[1] if coco else name
    return name if (found := number_of(number)) is None else found


def number_of(text: str) -> int | None:
    """Returns the number that a text is, or None."""
    return int(text) if text.isdecimal() and len(text) <= DIGITS else None


def positions(image_ids: Sequence[ImageId]) -> dict[ImageId, int]:
    """Returns the position of each image, by its id and :func:`also_by_number`."""
    return {image_id: position for position, image_id in enumerate(image_ids)} | also_by_number(image_ids)


def also_by_number(image_ids: Sequence[ImageId]) -> dict[int, int]:
    """Returns the position of images whose name ends in ``_`` and a number, by this number if no other image has it.

    Example:
        >>> also_by_number([7, "cat_3", "dog_4", "fish_4"])
        {3: 1}
    """
    numbers = [each if isinstance(each, int) else _number_at_end(each) for each in image_ids]
    counts = Counter(numbers)
    return {
        number: position
        for position, number in enumerate(numbers)
        if number is not None and counts[number] == 1 and isinstance(image_ids[position], str)
    }


def _number_at_end(name: str) -> int | None:
    return number_of(name.rpartition("_")[2].partition(".")[0])


def key_of(image_id: ImageId) -> int:
    """Returns the number under which an image is packed: its own, or one below zero that its name gives."""
    if isinstance(image_id, int):
        return image_id
    digest = hashlib.blake2b(image_id.encode("utf-8", UNREADABLE), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "big") >> 1)


def in_order(image_ids: Iterable[ImageId]) -> list[ImageId]:
    """Returns ids in their order, numbers before names."""
    return sorted(image_ids, key=lambda each: (isinstance(each, str), each))
