"""Pictures of all kinds become RGB as people see them, and broken ones one line."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from model_space.errors import InputError
from trainer.data.pictures.reading import list_pictures, read_picture

ROWS = np.arange(6, dtype=np.uint8).reshape(2, 3, 1) * np.array([40, 20, 10], np.uint8)
"""Two rows of three pixels."""


def pixels(path):
    return np.asarray(read_picture(path)).tolist()


def saved(folder, picture, name, **options):
    picture.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_rgb_stays_as_it_is(tmp_path, name):
    assert pixels(saved(tmp_path, Image.fromarray(ROWS), name, lossless=True)) == ROWS.tolist()


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(3, np.rot90(ROWS, 2)), (6, np.rot90(ROWS, -1)), (8, np.rot90(ROWS)), (2, ROWS[:, ::-1])],
    ids=["3", "6", "8", "2"],
)
def test_a_picture_is_turned_as_its_camera_was(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[274] = orientation
    assert pixels(saved(tmp_path, Image.fromarray(ROWS), "a.png", exif=exif)) == turned.tolist()


def test_grey_and_palette(tmp_path):
    grey = saved(tmp_path, Image.fromarray(ROWS[..., 0]), "grey.png")
    assert pixels(grey) == np.repeat(ROWS[..., :1], 3, -1).tolist()
    palette = Image.fromarray(ROWS).quantize(6)
    assert pixels(saved(tmp_path, palette, "palette.png")) == np.asarray(palette.convert("RGB")).tolist()


def test_sixteen_bits_of_grey_are_scaled_not_cut(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.array([[0, 257, 65535]], np.uint16)), "a.png")
    assert pixels(path) == [[[0, 0, 0], [1, 1, 1], [255, 255, 255]]]


def test_what_is_transparent_is_white(tmp_path):
    alpha = np.array([[0, 255, 0], [255, 255, 255]], np.uint8)[..., None]
    expected = np.where(alpha, ROWS, 255).tolist()
    assert pixels(saved(tmp_path, Image.fromarray(np.dstack([ROWS, alpha])), "alpha.png")) == expected
    palette = Image.fromarray(ROWS[:1]).quantize(3)
    first = pixels(saved(tmp_path, palette, "palette.png", transparency=palette.getpixel((0, 0))))[0]
    assert first[0] == [255, 255, 255] and first[1:] == ROWS[0, 1:].tolist()


def test_cmyk(tmp_path):
    inks = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red, green, blue = pixels(saved(tmp_path, inks, "a.jpg", quality=100))[0][0]
    assert red > 240 and green < 15 and blue < 15


def test_of_an_animation_the_first_picture_is_taken(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert pixels(path)[0][0] == [255, 0, 0]


def hostile(folder):
    """Files that are no whole pictures, by the reason."""
    whole = saved(folder, Image.fromarray(np.tile(ROWS, (40, 40, 1))), "whole.png").read_bytes()
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    bomb = whole[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + whole[33:]
    return {"cut": whole[:200], "empty": b"", "text": b"<html>no picture</html>", "bomb": bomb, "header": whole[:30]}


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "bomb", "header", "folder", "absent"])
def test_what_is_no_whole_picture_is_refused_in_one_line(tmp_path, kind):
    path = tmp_path / f"{kind}.png"
    if kind == "folder":
        path.mkdir()
    elif kind != "absent":
        path.write_bytes(hostile(tmp_path)[kind])
    with pytest.raises(InputError, match=f"{path}: (cannot be read: |has more than)") as error:
        read_picture(path)
    assert "\n" not in str(error.value) and ("pixels" in str(error.value)) == (kind == "bomb")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("times", [1.5, 2.5], ids=["warning", "error"])
def test_pillows_limit_of_pixels_stays_on(tmp_path, monkeypatch, times):
    path = saved(tmp_path, Image.fromarray(np.tile(ROWS, (10, 10, 1))), "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(600 / times))
    with pytest.raises(InputError, match=r"has more than .* pixels"):
        read_picture(path)


def test_pictures_are_listed_by_the_id_of_their_image(tmp_path):
    for name in ("b.PNG", "COCO_val2014_000000000042.jpg", "notes.txt", "street/a.webp", "7.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(list_pictures(tmp_path)) == [7, 42, "b", "street/a"]


def test_a_folder_that_is_not_as_expected_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot read the folder: No such file"):
        list_pictures(tmp_path / "absent")
    (tmp_path / "a.jpg").touch()
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"two pictures of image a: a.jpg and a.png"):
        list_pictures(tmp_path)
    (tmp_path / "a.jpg").rename(tmp_path / "b\nc.jpg")
    with pytest.raises(InputError, match=r"the name of the picture 'b\\nc.jpg' holds a control character") as error:
        list_pictures(tmp_path)
    assert "\n" not in str(error.value)
