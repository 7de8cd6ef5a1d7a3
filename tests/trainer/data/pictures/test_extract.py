"""Photos become the same packed file however often the packing is ended, and mistakes are one line."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from model_space.errors import InputError
from tests.helpers.photos import write_photos
from trainer.data.features.packed import extractor_of, open_packed, packed_arrays, verify
from trainer.data.packing import pack as pack_module
from trainer.data.packing import partial_file
from trainer.data.packing.pack import pack_pictures
from trainer.data.pictures import patches
from trainer.data.pictures.patches import PatchesSettings
from trainer.data.pictures.reading import list_pictures, read_picture

FOUR = {"name": "patches", "side": 8, "patch": 4, "batch_size": 4}


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", 18)
    return tmp_path / "photos"


def settings(**changes):
    return PatchesSettings(**FOUR | changes)


def refused(message, folder, **changes):
    with pytest.raises(InputError, match=message) as error:
        pack_pictures(folder, settings(**changes))
    assert "\n" not in str(error.value)


def test_patches_are_the_pixels_of_the_scaled_picture_with_their_boxes(photos):
    packed = pack_pictures(photos, settings())
    verify(packed)
    source, image_ids = open_packed(packed)
    files = list_pictures(photos)
    assert image_ids == list(files)
    for place, path in enumerate(files.values()):
        picture = read_picture(path)
        scaled = np.asarray(picture.resize((8, 8), Image.Resampling.BICUBIC, reducing_gap=2), float) / 127.5 - 1
        regions, boxes = source.gather(source.counts.new_tensor([place]), 4)
        expected = [scaled[y : y + 4, x : x + 4].ravel() for y in (0, 4) for x in (0, 4)]
        np.testing.assert_allclose(regions[0].numpy(), expected, atol=1e-3)
        w, h = picture.width / 2, picture.height / 2
        np.testing.assert_allclose(boxes[0], [[0, 0, w, h], [w, 0, 2 * w, h], [0, h, w, 2 * h], [w, h, 2 * w, 2 * h]])
        assert packed_arrays(packed)["sizes"][place].tolist() == list(picture.size)
    assert json.loads(extractor_of(packed)) == {"name": "patches", "side": 8, "patch": 4, "weights": None}


@pytest.mark.parametrize("broken", [(), (0, 5, 7), (4, 5, 6, 7)], ids=["whole", "some", "a group"])
@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_a_packing_that_was_ended_ends_with_the_same_bytes(photos, tmp_path, monkeypatch, calls, broken):
    """Ended when the extractor is called for the so-manyth time, with pictures that are left out."""
    monkeypatch.setattr(partial_file, "SYNC", 400)  # in the midst of a group of four
    for number in broken:
        next(photos.glob(f"photo-{number:02}.*")).write_bytes(b"broken")
    copy = shutil.copytree(photos, tmp_path / "copy/photos")
    left_out, called = [], []
    expected = pack_pictures(copy, settings(broken="skip"), skipped=left_out.append)
    assert len(left_out) == len(broken) and len(open_packed(expected)[1]) == 18 - len(broken)

    whole = patches.Patches.__call__

    def ended(self, pictures):
        called.append(len(pictures))
        if len(called) == calls + 1:
            raise KeyboardInterrupt
        return whole(self, pictures)

    for path in photos.iterdir():  # the copy has the times of the files, by which they are known
        shutil.copystat(copy / path.name, path)
    monkeypatch.setattr(patches.Patches, "__call__", ended)
    with pytest.raises(KeyboardInterrupt):
        pack_pictures(photos, settings(broken="skip"))
    again = []
    packed = pack_pictures(photos, settings(broken="skip"), skipped=again.append)
    assert packed.read_bytes() == expected.read_bytes()
    assert len(again) == len(left_out)
    groups = -(-18 // 4) - (broken == (4, 5, 6, 7))
    assert len(called) <= groups + 2  # the one that was ended, and one of which not all was on the disk


def test_what_is_packed_is_not_made_again_but_for_other_pictures_or_settings(photos, monkeypatch):
    packed = pack_pictures(photos, settings())
    before = packed.read_bytes()
    monkeypatch.setattr(patches.Patches, "__call__", lambda self, pictures: pytest.fail("made once more"))
    assert pack_pictures(photos, settings()).read_bytes() == before
    refused("made by patches .*side 8.*, where data.pictures says .*'side': 16.*delete it", photos, side=16)
    Image.new("RGB", (9, 9)).save(photos / "new.png")
    refused("had not yet 1 of its pictures, such as new.png", photos)
    refused("had not yet 1 of its pictures, such as new.png", photos, broken="skip")
    (photos / "new.png").write_bytes(b"broken")
    assert pack_pictures(photos, settings(broken="skip")).read_bytes() == before


def test_a_picture_that_has_changed_is_read_again(photos, monkeypatch):
    def ended(done, *others):
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_pictures(photos, settings(), ended)
    changed = sorted(photos.iterdir())[5]
    Image.new("RGB", (50, 50), "red").save(changed)
    source, image_ids = open_packed(pack_pictures(photos, settings()))
    regions, _ = source.gather(source.counts.new_tensor([5]), 4)
    assert (regions[0].view(4, 16, 3)[..., 0] > 0.9).all() and len(image_ids) == 18


def test_a_broken_picture_stops_it_unless_it_may_be_left_out(photos):
    (photos / "photo-05.webp").write_bytes(b"broken")
    refused(r"photo-05.webp: cannot be read: .*\(data.pictures.broken: skip leaves such pictures out\)", photos)
    assert not list(photos.parent.glob("*.safetensors"))
    _, image_ids = open_packed(pack_pictures(photos, settings(broken="skip")))
    assert "photo-05" not in image_ids and len(image_ids) == 17


def test_no_picture_is_one_line(tmp_path):
    (tmp_path / "photos").mkdir()
    refused("no pictures in it: expected .jpg, .jpeg, .png, .webp", tmp_path / "photos")
    (tmp_path / "photos/a.jpg").touch()
    refused("none of its 1 pictures can be read", tmp_path / "photos", broken="skip")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_disk_that_fills_up_half_way_is_one_line_and_nothing_is_lost(photos, tmp_path, monkeypatch):
    copy = shutil.copytree(photos, tmp_path / "copy/photos")
    expected = pack_pictures(copy, settings()).read_bytes()
    write, written = os.write, []

    def full(self, array):
        written.append(array.nbytes)
        if sum(written) > 4000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(self, array)

    whole = partial_file.PartialFile._write
    monkeypatch.setattr(partial_file.PartialFile, "_write", full)
    refused("No space left on device after [0-9]+ images: make room, and the same command resumes", photos)
    monkeypatch.setattr(partial_file.PartialFile, "_write", whole)
    for path in photos.iterdir():
        shutil.copystat(copy / path.name, path)
    assert pack_pictures(photos, settings()).read_bytes() == expected and write is os.write
    monkeypatch.setattr(pack_module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    pack_module.packed_path(photos).unlink()
    refused("are missing on the disk: make room", photos)


def test_features_that_are_not_finite_are_refused(photos, monkeypatch):
    whole = patches.Patches._features
    monkeypatch.setattr(
        patches.Patches, "_features", lambda *given: (made := whole(*given))._replace(features=made.features / 0)
    )
    with np.errstate(all="ignore"):
        refused("photo-00.jpg: its features are not finite", photos)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 10}, "side 10 is no multiple of patch 4"),
        ({"name": "pixels"}, "pixels"),
        ({"sides": 3}, "sides"),
        ({"batch_size": 0}, "batch_size"),
    ],
    ids=["side", "name", "key", "batch_size"],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)
