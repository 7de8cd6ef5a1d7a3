"""Pictures: which ones a folder has, and their pixels."""

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from model_space.errors import InputError
from trainer.data.features.folder import names_below
from trainer.data.features.names import PICTURE, ImageId, image_of
from trainer.data.features.paths import AN_IMAGE

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
"""The endings of pictures, in whatever case."""
WHITE = (255, 255, 255, 255)

# Of pictures above its limit Pillow warns, and refuses those of twice as many pixels. Here all of them are refused.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def list_pictures(folder: Path) -> dict[ImageId, Path]:
    """Returns the pictures in a folder and below it by the id of their image, in the order of their names.

    Raises:
        InputError: If the folder or one below it cannot be read, two pictures are of one image, or a name would break
            a line.
    """
    pictures: dict[ImageId, Path] = {}
    for name in names_below(folder):
        if not name.lower().endswith(ENDINGS):
            continue
        if any(ord(letter) < ord(" ") for letter in name):
            raise InputError(f"{folder}: the name of the picture {name!r} holds a control character: rename it")
        path = folder / name
        if (other := pictures.setdefault(image_of(name), path)) is not path:
            raise InputError(f"{folder}: two pictures of image {image_of(name)}: {other.name} and {path.name}")
    return pictures


def holds_pictures(path: Path) -> bool:
    """Returns whether a path is a folder with pictures and without features.

    Raises:
        InputError: If the folder cannot be read.
    """
    if not path.is_dir():
        return False
    names = names_below(path)
    return any(map(PICTURE.search, names)) and not any(name.endswith(AN_IMAGE) for name in names)


def read_picture(path: Path) -> Image.Image:
    """Reads a picture in RGB of 8 bits as people see it: turned as its EXIF data say, white where it is transparent.

    Of an animation it is the first picture.

    Raises:
        InputError: If the file is not a whole picture, or one of too many pixels.
    """
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise Image.DecompressionBombError
            return _in_rgb(ImageOps.exif_transpose(opened))
    except Image.DecompressionBombError:
        raise InputError(f"{path}: has more than {Image.MAX_IMAGE_PIXELS:,} pixels: expected fewer") from None
    except Exception as error:  # Pillow has many errors for a broken file
        reason = getattr(error, "strerror", None) or "not a whole picture in a form that Pillow reads"
        raise InputError(f"{path}: cannot be read: {reason}") from None


def is_whole(path: Path) -> bool:
    """Returns whether a picture can be read."""
    try:
        read_picture(path)
    except InputError:
        return False
    return True


def _in_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut to 8, so that nearly all is white
        levels = np.asarray(picture, dtype=np.int64).clip(0, 65535) // 257
        picture = Image.fromarray(levels.astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, WHITE), picture)
    return picture.convert("RGB")
