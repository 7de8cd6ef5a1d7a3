"""Features that other projects have made: each form gives the numbers that it holds, and its mistakes one line."""

import io
import json
import pickle
import random
import shutil
import sys
import tracemalloc

import h5py
import numpy as np
import pytest
import torch

from model_space.errors import InputError
from tests.helpers import others
from tests.helpers.official import write_official
from tests.helpers.others import Named
from trainer.data.features.folder import feature_files
from trainer.data.features.npz import MCAN, NpzForm, read_npz
from trainer.data.features.packed import image_ids_of, packed_arrays
from trainer.data.features.paths import AN_IMAGE, PACKED_FIRST
from trainer.data.inspection.inspect import inspect_data
from trainer.data.packing import partial_file
from trainer.data.packing.pack import pack
from trainer.data.packing.reading import read_images
from trainer.data.packing.sources.open import FILES, FOLDERS, open_source
from trainer.data.settings import DataSettings
from trainer.data.splits import load_data

REGIONS = 6


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Files of VQA-v2 with 12 images to train on, each of 6 regions of 8 features."""
    return write_official(tmp_path_factory.mktemp("official"), feature_size=8, regions=(REGIONS, REGIONS))


@pytest.fixture(scope="module")
def images(official):
    return named(official.train.features)


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory):
    """Images of 3 to 9 regions."""
    files = write_official(tmp_path_factory.mktemp("adaptive"), feature_size=8, regions=(3, 9))
    return named(files.train.features)


def named(folder):
    """The images of a folder, not in the order of their numbers."""
    files = feature_files(folder)
    ids = sorted(files, key=lambda each: (each % 7, each))
    return [Named(f"COCO_train2014_{each:012d}", each, read_npz(files[each])) for each in ids]


WRITERS = {
    "train.tsv": others.write_lxmert,
    "grids": lambda path, images: others.write_grids(path, images, rows=2),
    "detectron": others.write_npy,
    "detectron.lmdb": others.write_lmdb,
    "train36.hdf5": others.write_hdf5,
}
"""Each form by the name that the source has in these tests."""


def packed_images(path, form=MCAN):
    """Packs a source and returns features, boxes and size of each image."""
    packed = pack(path, form=form)
    arrays = packed_arrays(packed)
    starts = arrays["counts"].cumsum() - arrays["counts"]
    return {
        image_id: (
            arrays["features"][start : start + count],
            arrays["boxes"][start : start + count],
            tuple(size),
        )
        for image_id, start, count, size in zip(
            image_ids_of(arrays), starts, arrays["counts"], arrays["sizes"].tolist()
        )
    }


def check_same(path, images, form=MCAN):
    """Checks that all numbers of a source are those of these images."""
    found = packed_images(path, form)
    assert sorted(found) == sorted(each.number for each in images)
    for _, number, image in images:
        features, boxes, size = found[number]
        np.testing.assert_array_equal(features, image.features.astype(np.float16))
        np.testing.assert_array_equal(boxes, image.boxes)
        assert size == image.size


def refused(message, source, form=MCAN):
    with pytest.raises(InputError, match=message) as error:
        pack(source, form=form)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


# What is read


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "grids"])
def test_regions_with_boxes(tmp_path, images, name):
    WRITERS[name](path := tmp_path / name, images)
    check_same(path, images)
    assert [*tmp_path.glob("*.safetensors")] == [tmp_path / f"{name.partition('.')[0]}.safetensors"]


@pytest.mark.parametrize("name", ["train.tsv", "detectron", "detectron.lmdb", "train.h5"])
def test_any_number_of_regions(tmp_path, adaptive, name):
    write = WRITERS.get(name) or (lambda path, images: others.write_hdf5(path, images, adaptive=True))
    write(path := tmp_path / name, adaptive)
    check_same(path, adaptive)


def test_images_that_have_a_name(tmp_path, images):
    mine = [each._replace(name=f"street/photo-{number}") for number, each in enumerate(images)]
    others.write_lxmert(tmp_path / "mine.tsv", mine)
    assert list(packed_images(tmp_path / "mine.tsv")) == [each.name for each in mine]


@pytest.mark.parametrize("newer", [True, False], ids=["of torch 2", "of torch 1.5"])
def test_grids(tmp_path, newer):
    """Cells row by row, of a grid that is not square; the image has as many pixels as the grid has cells."""
    (folder := tmp_path / "train2014").mkdir()
    grid = torch.randn(1, 8, 2, 3)
    torch.save(grid, folder / "9.pth", _use_new_zipfile_serialization=newer)
    torch.save(grid[0].half(), folder / "COCO_train2014_000000000025.pth")
    found = packed_images(folder)
    cells = [(x, y, x + 1, y + 1) for y in range(2) for x in range(3)]
    assert list(found) == [9, 25]
    for features, boxes, size in found.values():
        np.testing.assert_array_equal(features, [grid[0, :, y, x].half().numpy() for x, y, *_ in cells])
        assert boxes.tolist() == [[*map(float, cell)] for cell in cells] and size == (3.0, 2.0)
    np.savez(tmp_path / "9.npz", x=grid[0].numpy())
    same = read_npz(tmp_path / "9.npz", form=NpzForm(boxes="grid"))
    np.testing.assert_array_equal(same.boxes, found[9][1])
    assert same.size == found[9][2]


def test_mmf_without_boxes(tmp_path, images):
    """Features alone, of which the settings say that there are no boxes, or that they are a grid."""
    others.write_npy(folder := tmp_path / "train2014", images)
    name = images[3].name
    (folder / f"{name}_info.npy").unlink()
    refused(f"{name}.npy: no {name}_info.npy beside it, .* or the setting data.boxes: grid or none", folder)
    for path in folder.glob("*_info.npy"):
        path.unlink()
    found = packed_images(folder, NpzForm(boxes="none"))
    assert found[images[0].number][0].shape == (REGIONS, 8) and not found[images[0].number][1].any()
    (folder.with_suffix(".safetensors")).unlink()
    for name, _, image in images:
        np.save(folder / f"{name}.npy", image.features.reshape(2, 3, 8))
    found = packed_images(folder, NpzForm(boxes="grid"))
    np.testing.assert_array_equal(found[images[0].number][0], images[0].image.features.astype("f2"))
    assert found[images[0].number][1][4].tolist() == [1, 1, 2, 2] and found[images[0].number][2] == (3, 2)


def test_lmdb_as_a_file(tmp_path, images):
    others.write_lmdb(tmp_path / "folder", images, protocol=5)
    shutil.copy(tmp_path / "folder/data.mdb", tmp_path / "file.lmdb")
    check_same(tmp_path / "file.lmdb", images)
    check_same(tmp_path / "folder", images)
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["data.mdb", "lock.mdb"]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_the_map_of_hdf5_in_any_protocol(tmp_path, images, protocol):
    others.write_hdf5(tmp_path / "val36.hdf5", images, protocol=protocol)
    check_same(tmp_path / "val36.hdf5", images)


def test_the_map_of_hdf5_in_json(tmp_path, images):
    others.write_hdf5(path := tmp_path / "train36.hdf5", images)
    (tmp_path / "train36_imgid2idx.pkl").unlink()
    rows = {each.name: row for row, each in enumerate(images)}
    (tmp_path / "train36_imgid2idx.json").write_text(json.dumps(rows))
    check_same(path, images)


def test_the_size_of_images_in_hdf5(tmp_path, images):
    """Where there are no shares, the size is that of all boxes."""
    others.write_hdf5(path := tmp_path / "train36.hdf5", images)
    with h5py.File(path, "r+") as file:
        del file["spatial_features"]
    boxes, size = packed_images(path)[images[0].number][1:]
    assert size == tuple(boxes[:, 2:].max(0).tolist()) != images[0].image.size


# Interrupted


@pytest.mark.parametrize("name", WRITERS)
def test_it_resumes_where_it_was_interrupted(tmp_path, images, name, monkeypatch):
    monkeypatch.setattr(partial_file, "SYNC", 1)
    WRITERS[name](path := tmp_path / name, images)
    seen = []
    whole = pack(path, lambda *told: seen.append(told)).read_bytes()
    assert [told[0] for told in seen] == list(range(1, 13)) and seen[-1][1] <= seen[-1][2]
    (target := tmp_path / f"{name.partition('.')[0]}.safetensors").unlink()

    def stop(images, done, total):
        if images == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(path, stop)
    assert not target.exists() and target.with_name(f"{target.name}.partial").exists()
    read = [image is not None for _, image in read_images(open_source(path, MCAN).entries(packed_five(target)))]
    assert read == [False] * 5 + [True] * 7
    assert pack(path).read_bytes() == whole
    assert pack(path) == target


def packed_five(target):
    """What the partial file says of each image; it is put back as it was."""
    places = [target.with_name(f"{target.name}.{end}") for end in ("partial", "journal")]
    contents = [place.read_bytes() for place in places]
    with partial_file.PartialFile(target) as packed:
        assert len(packed._earlier) == 5
        told = [(each.image_id, each.stamp) for each in packed._earlier]
    for place, content in zip(places, contents):
        place.write_bytes(content)
    return lambda image_id, stamp: (image_id, stamp) in told


@pytest.mark.parametrize("name", ["detectron.lmdb", "train36.hdf5"])
def test_a_file_that_is_another_by_now_is_packed_anew(tmp_path, images, name, monkeypatch):
    monkeypatch.setattr(partial_file, "SYNC", 1)
    WRITERS[name](path := tmp_path / name, images)

    def stop(images, done, total):
        if images == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(path, stop)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    changed = [each._replace(image=each.image._replace(features=each.image.features + 1)) for each in images]
    WRITERS[name](path, changed)
    check_same(path, changed)


# Before it is packed


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_training_and_a_check_say(tmp_path, official, images, name):
    WRITERS[name](path := tmp_path / name, images)
    splits = {key: getattr(official, key)._asdict() for key in ("train", "val", "test")}
    splits["train"]["features"] = path
    settings = DataSettings(min_answer_count=1, **splits)
    target = f"{name.partition('.')[0]}.safetensors"
    message = f"{path}: is not read as it is, but packed: make {target} of it with launch.py --pack SETTINGS"
    with pytest.raises(InputError) as error:
        load_data(settings)
    assert str(error.value) == message
    assert [each.what for each in inspect_data(settings).findings if each.stops] == [message]
    pack(path)
    assert len(load_data(settings).train) == 40
    report = inspect_data(settings)
    assert not report.findings and len(report.splits[0].images) == 12


def test_a_folder_that_has_more_by_now(tmp_path, images):
    others.write_npy(folder := tmp_path / "train2014", images[1:])
    pack(folder)
    np.save(folder / f"{images[0].name}.npy", images[0].image.features)
    with pytest.raises(InputError, match=f"not yet 1 of its images, such as {images[0].number}: delete it"):
        pack(folder)


def test_each_form_is_opened():
    assert sorted(FILES) == sorted(PACKED_FIRST) and sorted(FOLDERS) == sorted((*AN_IMAGE, ".lmdb"))


@pytest.mark.parametrize(("package", "name"), [("h5py", "train36.hdf5"), ("lmdb", "detectron.lmdb")])
def test_a_package_that_is_missing(tmp_path, images, package, name, monkeypatch):
    WRITERS[name](path := tmp_path / name, images)
    for module in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{package}.verify", None)
    refused(f"{name}: .* is read by {package}.*, which is missing: pip install '?{package}", path)


def test_it_is_read_in_pieces(tmp_path):
    """10,000 images of 36 regions: 92 MB, of which little is in memory at a time."""
    path, count = tmp_path / "train36.hdf5", 10_000
    with h5py.File(path, "w") as file:  # Nothing is written of them: all are zero.
        for name, width in (("image_features", 64), ("image_bb", 4), ("spatial_features", 6)):
            file.create_dataset(name, (count, 36, width), "f")
    (tmp_path / "train36_imgid2idx.pkl").write_bytes(pickle.dumps({number: number for number in range(count)}, 0))
    tracemalloc.start()
    try:
        source = open_source(path, MCAN)
        tracemalloc.reset_peak()
        read = sum(image is not None for _, image in read_images(source.entries(lambda image_id, stamp: False)))
        assert read == count and tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


# Mistakes


def lxmert_line(**changes):
    """The cells of a line of one region of two features."""
    coded = {"boxes": others.coded(np.array([[0, 0, 5, 5]], "f4")), "features": others.coded(np.ones((1, 2), "f4"))}
    cells = {"img_id": "COCO_train2014_000000000009", "img_h": 6, "img_w": 7}
    cells |= {"objects_id": "A", "objects_conf": "A", "attrs_id": "A", "attrs_conf": "A", "num_boxes": 1} | coded
    return "\t".join(str(each) for each in (cells | changes).values() if each is not None) + "\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (lxmert_line(attrs_conf=None), r"line 1: 9 columns, expected those of bottom-up.*LXMERT .img_id, img_h"),
        (lxmert_line() + lxmert_line(img_id="b")[:14], "line 2: 8 columns, expected img_id, img_h"),
        (lxmert_line() + "7\t1\t1\t1\tAAAA\tAAAA\n", "line 2: 6 columns, expected img_id, img_h"),
        (lxmert_line() + lxmert_line(img_id="b")[:-6], "line 2: not of numbers and float32 in base64"),
        (lxmert_line(img_id="img_id", img_h="img_h"), "line 1: not of numbers and float32 in base64: .*img_h"),
        (lxmert_line(img_id=""), "line 1: img_id: '' is no image: expected its number, or its name"),
        (lxmert_line(img_id="a\0b"), r"line 1: img_id: 'a\\x00b' is no image"),
        (lxmert_line() + lxmert_line(img_id="9"), "line 2: features of image 9 once more: expected them once"),
        (lxmert_line(num_boxes=2), r"line 1: boxes is float32 \(2, 2\), expected numbers \(2, 4\)"),
        (lxmert_line(num_boxes=0), "line 1: not of numbers and float32"),
        (lxmert_line(img_w=0), "line 1: img_w is 0.0, expected a number of pixels above 0"),
        (lxmert_line(img_w=1e300), r"line 1: img_w is 1e\+300, expected a number of pixels above 0"),
        (lxmert_line(features=others.coded(np.array([1, np.nan], "f4"))), "line 1: features holds NaN or infinity"),
        (lxmert_line(boxes=others.coded(np.full(4, np.inf, "f4"))), "line 1: boxes holds NaN or infinity"),
        (lxmert_line(features=others.coded(np.array([7e4, 0], "f4"))), "line 1: a feature is 70000: float16 holds"),
        ("", "some.tsv: no features in it"),
    ],
)
def test_wrong_lines_of_lxmert(tmp_path, lines, message):
    (path := tmp_path / "some.tsv").write_text(lines)
    refused(f"^{path}: {message}" if "no features" not in message else message, path)


class Hostile:
    def __reduce__(self):
        return print, ("run",)


def saved(value) -> bytes:
    torch.save(value, content := io.BytesIO())
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"9\.pth: broken, or not a \.pth of a tensor"),
        (saved(torch.ones(1, 2, 3, 4))[:-50], r"9\.pth: broken, or not a \.pth of a tensor"),
        (saved(Hostile()), r"9\.pth: broken, or not a \.pth of a tensor: UnpicklingError: Weights only load failed"),
        (saved({"features": 1}), r"9\.pth: holds dict, expected a tensor \(1, features, rows, columns\)"),
        (saved(torch.ones(2, 3, 4, 4)), r"9\.pth: the tensor is torch.float32 \(2, 3, 4, 4\), expected numbers \(1, "),
        (saved(torch.ones(3, 4)), r"9\.pth: the tensor is torch.float32 \(3, 4\)"),
        (saved(torch.ones(1, 2, 3, 4) > 0), r"9\.pth: the tensor is bool \(2, 3, 4\), expected numbers"),
        (saved(torch.ones(1, 2, 3, 4, dtype=torch.complex64)), r"9\.pth: the tensor is complex64"),
        (saved(torch.ones(1, 0, 3, 4)), r"9\.pth: the tensor has 12 regions of 0 features"),
        (saved(torch.full((1, 2, 3, 4), torch.nan)), r"9\.pth: the tensor holds NaN or infinity"),
        (saved(torch.ones(1).expand(1, 9, 10**6, 10**6)), r"9\.pth: .*but the file has not so many numbers"),
        (saved(torch.ones(1, 2, 3, 4).to_sparse()), r"9\.pth: (holds Tensor|broken)"),
        (saved(torch.ones(1, 5, 3, 4)), r"9\.pth: 5 features a region, those before have 2"),
    ],
)
def test_wrong_grids(tmp_path, content, message):
    (folder := tmp_path / "train2014").mkdir()
    torch.save(torch.ones(1, 2, 3, 4), folder / "8.pth")
    (folder / "9.pth").write_bytes(content)
    refused(message, folder)


def test_folders_of_two_forms(tmp_path):
    (folder := tmp_path / "train2014").mkdir()
    (folder / "9.pth").touch()
    (folder / "25.npy").touch()
    refused(r"train2014: has files of two forms, 9\.pth and 25\.npy: expected one", folder)
    (folder / "25.npy").unlink()
    (folder / "COCO_train2014_000000000009.pth").touch()
    refused("train2014: two files of image 9: 9.pth and COCO_train2014_000000000009.pth", folder)
    np.savez(folder / "8.npz", x=np.ones((3, 2)), bbox=np.ones((2, 4)))  # beside which others may lie
    assert list(packed_images(folder)) == [8]


INFO = {"bbox": np.ones((2, 4), "f4"), "num_boxes": 2, "image_width": 9, "image_height": 9}


def array(value) -> bytes:
    np.save(content := io.BytesIO(), value)
    return content.getvalue()


@pytest.mark.parametrize(
    ("features", "info", "message"),
    [
        (b"", INFO, r"a\.npy: broken, or not an \.npy"),
        (array(np.ones((2, 3)))[:-8], INFO, r"a\.npy: broken, or not an \.npy"),
        (array({"image_feat": 1}), INFO, r"a\.npy: holds dict, expected an array of numbers"),
        (array(Hostile()), INFO, r"a\.npy: a pickle with (__builtin__|builtins)\.print, expected plain values"),
        (np.ones(3), INFO, r"and a_info\.npy: features is float64 \(3,\), expected numbers \(regions, feat"),
        (np.array([["a"]]), INFO, r"and a_info\.npy: features is <U1 \(1, 1\), expected numbers"),
        (np.ones((0, 3)), INFO, r"and a_info\.npy: features has 0 regions of 3 features"),
        (np.full((2, 3), np.nan), INFO, r"and a_info\.npy: features holds NaN or infinity"),
        (np.ones((5, 3)), INFO, r"and a_info\.npy: bbox is float32 \(2, 4\), expected numbers \(5, 4\) since feat"),
        (np.ones((2, 3)), array(Hostile()), r"a_info\.npy: a pickle with .*print, .*nothing in it is run"),
        (np.ones((2, 3)), array(INFO)[:-9], r"a_info\.npy: a broken pickle"),
        (np.ones((2, 3)), array(7), r"a_info\.npy: holds ndarray, expected a dict with bbox, image_width"),
        (np.ones((2, 3)), {"image_width": 1}, r"and a_info\.npy: no array 'bbox'; expected features, bbox"),
        (np.ones((2, 3)), INFO | {"bbox": [1]}, r"and a_info\.npy: bbox is list, expected an array"),
        (np.ones((2, 3)), INFO | {"bbox": np.full((2, 4), np.inf)}, r"and a_info\.npy: bbox holds NaN or infinity"),
        (np.ones((2, 3)), INFO | {"image_width": 0}, r"and a_info\.npy: image_width is 0, expected a number of pixels"),
        (np.ones((2, 3)), INFO | {"image_width": [[]]}, r"and a_info\.npy: image_width is of type list, expected"),
        (np.ones((2, 3)), INFO | {"image_height": None}, r"and a_info\.npy: no array 'image_height'"),
    ],
)  # fmt: skip
def test_wrong_files_of_mmf(tmp_path, features, info, message):
    (folder := tmp_path / "train2014").mkdir()
    (folder / "a.npy").write_bytes(features if isinstance(features, bytes) else array(features))
    (folder / "a_info.npy").write_bytes(info if isinstance(info, bytes) else array(info))
    refused(message, folder)


VALUE = INFO | {"features": np.ones((2, 3), "f4")}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "some.lmdb: no features in it"),
        ({"a": VALUE, "b\0": VALUE}, r"some.lmdb: a key: 'b\\x00' is no image"),
        ({"9": VALUE, "a/COCO_train2014_000000000009": VALUE}, "features of image 9 once more: expected them once"),
        ({"a": Hostile()}, r"some.lmdb: a: a pickle with .*print, expected plain values"),
        ({"a": [1]}, "some.lmdb: a: holds list, expected a dict with features, bbox, image_width, image_height"),
        ({"a": INFO}, "some.lmdb: a: no array 'features'; expected features, bbox"),
        ({"a": {"features": VALUE["features"]}}, "some.lmdb: a: no array 'bbox'; .*data.boxes: grid or none"),
        ({"a": VALUE | {"features": "AAAA"}}, "some.lmdb: a: features is str, expected an array"),
        ({"a": VALUE | {"bbox": np.ones((3, 4))}}, r"a: bbox is float64 \(3, 4\), expected numbers \(2, 4\)"),
        ({"a": VALUE | {"features": np.full((2, 3), np.inf)}}, "some.lmdb: a: features holds NaN or infinity"),
    ],
)  # fmt: skip
def test_wrong_values_of_lmdb(tmp_path, values, message):
    others.write_values(path := tmp_path / "some.lmdb", {key: pickle.dumps(value) for key, value in values.items()})
    refused(message, path)


def test_broken_lmdb(tmp_path, images):
    """Also one that would end the process if LMDB read it."""
    others.write_lmdb(path := tmp_path / "some.lmdb", images)
    whole = (path / "data.mdb").read_bytes()
    for size in (0, 100, 4096, 8192, len(whole) // 2, len(whole) - 4096):
        (path / "data.mdb").write_bytes(whole[:size])
        refused("some.lmdb: broken", path)
    rng = np.random.default_rng(0)
    for _ in range(20):
        content = bytearray(whole)
        for place in rng.integers(len(content), size=200):
            content[place] ^= 255
        (path / "data.mdb").write_bytes(content)
        refused("some.lmdb: ", path)
    (path / "data.mdb").unlink()
    refused("some.lmdb: broken, or no LMDB: .*No such file", path)


def change(path, **datasets):
    """Puts other datasets into an HDF5; None takes one out."""
    with h5py.File(path, "r+") as file:
        for name, value in datasets.items():
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value


ROWS = (13, REGIONS)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"image_features": None}, "no dataset image_features; expected image_features, image_bb and spatial_features"),
        ({"image_bb": None}, "no dataset image_bb; expected image_features, image_bb and spatial_features"),
        ({"image_features": np.ones((13, 8), "f4")}, r"image_features is \(13, 8\), expected \(images, regions"),
        ({"image_features": np.float32(1)}, r"image_features is \(\), expected \(images, regions"),
        ({"image_features": [b"a"]}, r"image_features is object \(1,\), expected numbers"),
        ({"image_bb": np.ones((*ROWS, 5), "f4")}, r"image_bb is \(13, 6, 5\), expected \(13, 6, 4\) since"),
        ({"spatial_features": np.ones((*ROWS, 4), "f4")}, r"spatial_features is \(13, 6, 4\), expected \(13, 6, 6\)"),
        ({"spatial_features": np.ones((*ROWS, 6), "f4")}, r"row 0 \(image .*\): spatial_features are not image_bb as "),
        ({"spatial_features": np.full((*ROWS, 6), np.nan)}, r"row 0 \(image .*\): spatial_features holds NaN"),
        ({"image_features": np.full((*ROWS, 8), np.inf)}, r"row 0 \(image .*\): image_features holds NaN or infinity"),
        ({"image_bb": np.full((*ROWS, 4), np.nan)}, r"row 0 \(image .*\): image_bb holds NaN or infinity"),
        ({"image_features": np.ones((*ROWS, 0), "f4")}, r"row 0 \(image .*\): image_features has 6 regions of 0"),
        ({"pos_boxes": np.ones((13, 2), "i4")}, r"image_features is \(13, 6, 8\), expected .* with pos_boxes"),
    ],
)  # fmt: skip
def test_wrong_datasets(tmp_path, images, datasets, message):
    others.write_hdf5(path := tmp_path / "train36.hdf5", images)
    change(path, **datasets)
    refused(f"^{path}: {message}", path)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (np.zeros((13, 2), "i4"), r"row 0 \(image .*\): pos_boxes is 0 to 0, expected some of the"),
        (np.tile([5, 10**6], (13, 1)), r"row 0 \(image .*\): pos_boxes is 5 to 1000000, expected"),
        (np.tile([-5, 5], (13, 1)), r"row 0 \(image .*\): pos_boxes is -5 to 5, expected"),
        (np.ones((13, 3), "i4"), r"pos_boxes is \(13, 3\), expected \(images, 2\)"),
        (np.ones((13, 2), "f4"), r"pos_boxes is float32 \(13, 2\), expected numbers"),
        (
            np.ones((3, 2), "i4"),
            "row 3, which is image .*'s by the map beside it, is not there: it has the rows 0 to 2",
        ),
    ],
)
def test_wrong_positions(tmp_path, adaptive, positions, message):
    others.write_hdf5(path := tmp_path / "train.hdf5", adaptive, adaptive=True)
    change(path, pos_boxes=positions)
    refused(f"^{path}: {message}", path)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({9: 13}, "row 13, which is image 9's by the map beside it, is not there: it has the rows 0 to 12"),
        ({9: -1}, "train36.hdf5: row -1"),
        ({9: 0, 25: 0}, "train36.hdf5: row 0 is of two images by the map beside it: 9 and 25"),
        ({9: 0, "COCO_train2014_000000000009": 1}, "image 'COCO_train2014_0.*': image 9 twice: expected it once"),
        ({9: "0"}, "image 9: its row is of type str, expected a number"),
        ({9: True}, "image 9: its row is of type bool, expected a number"),
        ({-9: 0}, "image -9: expected its number, or its name"),
        ({b"9": 0}, "image b'9': expected its number, or its name"),
        ({"": 0}, "'' is no image: expected its number, or its name"),
        ([9], "holds list, expected a map of image ids to rows"),
        ({}, "train36.hdf5: no features in it"),
        (Hostile(), "train36_imgid2idx.pkl: a pickle with __builtin__.print, expected plain values"),
    ],
)  # fmt: skip
def test_wrong_maps(tmp_path, images, ids, message):
    others.write_hdf5(path := tmp_path / "train36.hdf5", images)
    (tmp_path / "train36_imgid2idx.pkl").write_bytes(pickle.dumps(ids, 0))
    refused(message, path)


def test_broken_hdf5(tmp_path, images):
    others.write_hdf5(path := tmp_path / "train36.hdf5", images)
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused("train36.hdf5: broken, or no HDF5", path)
    path.write_bytes(whole)
    (ids := tmp_path / "train36_imgid2idx.pkl").write_bytes(ids.read_bytes()[:-1])
    refused("train36_imgid2idx.pkl: a broken pickle", path)
    (tmp_path / "train36_imgid2idx.json").write_text("{")
    refused(
        "train36.hdf5: two maps of image ids to rows beside it: expected train36_imgid2idx.pkl or train36_img", path
    )
    ids.unlink()
    refused("train36_imgid2idx.json, line 1, column 2: not a map of image ids to rows", path)
    (tmp_path / "train36_imgid2idx.json").unlink()
    refused("train36.hdf5: no maps of image ids to rows beside it: expected train36_imgid2idx.pkl or ", path)


@pytest.mark.parametrize("name", WRITERS)
def test_broken_anywhere(tmp_path, images, name):
    """With some bits flipped or its end missing, a file is packed or refused in one line, whatever library reads it."""
    WRITERS[name](path := tmp_path / name, images)
    draw = random.Random(0)
    for file in sorted(path.iterdir()) if path.is_dir() else [path, *tmp_path.glob("*.pkl")]:
        whole = file.read_bytes()
        for _ in range(20 if len(whole) > 20_000 else 5):
            content = bytearray(whole)
            for _ in range(draw.randrange(4)):  # The first bytes say how the others are read.
                content[draw.randrange(draw.choice([len(whole), min(len(whole), 3000)]))] ^= 1 << draw.randrange(8)
            file.write_bytes(content[: draw.choice([len(content), draw.randrange(len(content))])])
            try:
                pack(path).unlink()
            except InputError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000
        file.write_bytes(whole)


def test_ids_of_a_packed_file(tmp_path, images):
    """In the order of rows, whatever the order of the map."""
    others.write_hdf5(path := tmp_path / "train36.hdf5", images)
    rows = {each.number: row for row, each in enumerate(images)}
    (tmp_path / "train36_imgid2idx.pkl").write_bytes(pickle.dumps(dict(sorted(rows.items())), 0))
    assert image_ids_of(packed_arrays(pack(path))) == [each.number for each in images]
