"""Packing: the same file whatever happens on the way, and mistakes in one line.

PACK_KILLS=500 pytest tests/trainer/data/test_packing.py    # for longer
"""

import contextlib
import os
import resource
import shutil
import signal
import tarfile
import time
from multiprocessing import get_context

import numpy as np
import pytest
from safetensors.numpy import save_file

from experiment.actions import pack as pack_action
from model_space.errors import InputError
from tests.helpers import others
from tests.helpers.official import write_official
from tests.helpers.others import Named
from trainer.data.features.folder import feature_files
from trainer.data.features.npz import read_npz
from trainer.data.features.packed import open_packed, packed_arrays, verify
from trainer.data.packing import pack as pack_module
from trainer.data.packing import partial_file
from trainer.data.packing.pack import pack

KILLS = int(os.environ.get("PACK_KILLS", 20))
fork = get_context("fork")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """120 images of 6 to 12 regions of 32 features, float32."""
    folder = tmp_path_factory.mktemp("pack")
    return write_official(folder, (120, 1, 1), (1, 1, 1), feature_size=32, regions=(6, 12)).train.features


@pytest.fixture(scope="module")
def expected(images, tmp_path_factory):
    """The bytes that these images are packed to."""
    folder = shutil.copytree(images, tmp_path_factory.mktemp("expected") / images.name)
    return pack(folder).read_bytes()


@pytest.fixture
def folder(images, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(images, tmp_path / images.name)


@pytest.fixture
def often(monkeypatch):
    """What is packed is put on the disk after every few images."""
    monkeypatch.setattr(partial_file, "SYNC", 2000)


def refused(message, source):
    with pytest.raises(InputError, match=message) as error:
        pack(source)
    assert "\n" not in str(error.value)


def same_as_folder(packed, folder):
    source, image_ids = open_packed(packed)
    files = feature_files(folder)
    assert sorted(files) == sorted(image_ids)
    arrays = packed_arrays(packed)
    for place, image_id in enumerate(image_ids):
        image = read_npz(files[image_id])
        regions, boxes = source.gather(source.counts.new_tensor([place]), len(image.features) + 1)
        np.testing.assert_array_equal(regions[0, :-1].numpy(), image.features.astype(np.float16))
        np.testing.assert_array_equal(boxes[0, :-1].numpy(), image.boxes)
        assert not regions[0, -1].any() and not boxes[0, -1].any()
        assert arrays["sizes"][place].tolist() == list(image.size)


def test_a_packed_file_holds_what_the_folder_holds(folder, expected):
    seen = []
    packed = pack(folder, lambda *told: seen.append(told))
    assert packed == folder.with_name("train2014.safetensors") and packed.read_bytes() == expected
    total = sum(path.stat().st_size for path in folder.iterdir())
    assert seen[-1] == (120, total, total) and [images for images, *_ in seen] == [*range(1, 121)]
    same_as_folder(packed, folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["train2014", "train2014.safetensors"]
    verify(packed, lambda *told: seen.append(told))
    assert seen[-1][0] == seen[-1][1]
    modified = packed.stat().st_mtime_ns
    assert pack(folder) == pack(packed) == packed and packed.stat().st_mtime_ns == modified


@pytest.mark.parametrize(("ending", "mode"), [(".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar", "w")])
def test_an_archive_is_read_without_unpacking(folder, expected, ending, mode):
    archive = folder.with_name(folder.name + ending)
    with tarfile.open(archive, mode) as file:
        file.add(folder, "train2014")
    shutil.move(folder, kept := folder.with_name("kept"))
    packed = pack(archive)
    assert packed == folder.with_name("train2014.safetensors")
    same_as_folder(packed, kept)


def named(folder):
    """The images of a folder as other projects know them."""
    files = feature_files(folder)
    return [Named(path.name.partition(".")[0], image_id, read_npz(path)) for image_id, path in files.items()]


def test_the_tsv_of_bottom_up_attention(folder):
    others.write_bottom_up(tsv := folder.with_name("trainval.tsv"), named(folder))
    packed = pack(tsv)
    assert packed.name == "trainval.safetensors"
    same_as_folder(packed, folder)


def kinds(folder):
    """The same images as a folder, an archive, a table, HDF5 and LMDB."""
    images = named(folder)
    others.write_bottom_up(tsv := folder.with_name("table.tsv"), images)
    others.write_hdf5(hdf5 := folder.with_name("train.hdf5"), images, adaptive=True)
    others.write_lmdb(lmdb := folder.with_name("detectron.lmdb"), images)
    with tarfile.open(archive := folder.with_name("archive.tar.gz"), "w:gz") as file:
        file.add(folder, "train2014")
    return [folder, archive, tsv, hdf5, lmdb]


# Interrupted


def child(function, *arguments):
    """Another process that runs it, quietly, and ends without what a test would do at its end."""

    def run():
        with contextlib.suppress(InputError):
            function(*arguments)
            os._exit(0)
        os._exit(2)

    process = fork.Process(target=run)
    process.start()
    return process


def test_killed_at_random_moments_it_ends_with_the_same_bytes(folder, often, tmp_path):
    rng = np.random.default_rng(int.from_bytes(os.urandom(4)))
    sources = kinds(folder)
    times, wholes = [], []
    for source in sources:
        start = time.monotonic()
        child(pack, source).join()
        times.append(time.monotonic() - start)
        wholes.append(pack(source).read_bytes())
    kills = 0
    while kills < KILLS:
        for source, seconds, whole in zip(sources, times, wholes):
            target = pack(source)
            target.unlink()
            moments = []
            while not target.exists():
                process = child(pack, source)
                process.join(rng.uniform(0, 0.7 * seconds))
                if process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
                    kills += 1
                process.join()
                assert process.exitcode in (0, -signal.SIGKILL)
                moments.append(sum(path.stat().st_size for path in tmp_path.glob("*.partial")))
            assert pack(source).read_bytes() == whole, moments
    assert not [*tmp_path.glob("*.partial"), *tmp_path.glob("*.journal")]


def test_whatever_reached_the_disk_it_ends_with_the_same_bytes(folder, expected, often, monkeypatch):
    """As after a loss of power: the journal torn anywhere, the regions longer or shorter than it says."""
    monkeypatch.setattr(partial_file.PartialFile, "finish", lambda self: self._sync(wait=True))
    target = pack(folder)
    data, journal = (target.with_name(target.name + end) for end in (".partial", ".journal"))
    whole = data.read_bytes(), journal.read_bytes()
    monkeypatch.undo()
    rng = np.random.default_rng(0)
    for _ in range(20):
        ends = [int(rng.integers(len(each) + 1)) for each in whole]
        data.write_bytes(whole[0][: ends[0]])
        journal.write_bytes(whole[1][: ends[1]] + rng.bytes(int(rng.integers(50))))
        assert pack(folder).read_bytes() == expected, ends
        target.unlink()


def test_a_disk_that_fills_up(folder, expected, often):
    def with_limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        refused("train2014.safetensors: File too large after [1-9][0-9]* images: make room", folder)

    data = folder.with_name("train2014.safetensors.partial")
    for size in (20_000, 30_000, 40_000):
        process = child(with_limit, size)
        process.join()
        assert process.exitcode == 0 and not folder.with_name("train2014.safetensors").exists()
        assert size - 2000 < data.stat().st_size <= size
    seen = []
    assert pack(folder, lambda images, *rest: seen.append(images)).read_bytes() == expected


def test_no_room_is_said_before(folder, monkeypatch):
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(pack_module.shutil, "disk_usage", lambda path: usage._replace(free=2**26 + 1000))
    refused("train2014.safetensors: takes about 0.0 GB, for which 0.0 GB are missing", folder)
    assert [*folder.parent.iterdir()] == [folder]


def test_an_image_that_changed_meanwhile_is_packed_as_it_is(folder, often):
    paths = sorted(folder.iterdir())
    broken, whole = paths[80], paths[80].read_bytes()
    broken.write_bytes(b"broken")
    refused(f"^{broken}: broken, or not an .npz", folder)
    broken.write_bytes(whole)
    shutil.copy(paths[3], paths[60])  # of another time
    seen = []
    packed = pack(folder, lambda images, *rest: seen.append(images))
    same_as_folder(packed, folder)


def test_two_processes_do_not_pack_one_folder(folder):
    with partial_file.PartialFile(folder.with_name("train2014.safetensors")):
        refused("train2014.safetensors: another process is packing it", folder)


# Mistakes


def image(path, **changes):
    arrays = {"x": np.ones((32, 5), "f4"), "bbox": np.ones((5, 4), "f4"), "image_w": 9, "image_h": 9}
    np.savez(path, **(arrays | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones((31, 5), "f4")}, "31 features a region, those before have 32"),
        ({"x": np.full((32, 5), 7e4, "f4")}, "a feature is 70000: float16 holds 65504 at most"),
        ({"x": np.full((32, 5), np.nan, "f2")}, "x holds NaN or infinity"),
        ({"x": np.array([[{}]])}, "broken, or not an .npz of plain arrays: ValueError: Object arrays"),
    ],
)
def test_wrong_images(folder, changes, message):
    path = sorted(folder.iterdir())[50]
    image(path, **changes)
    refused(f"^{path}: {message}", folder)
    path.unlink()
    assert len(open_packed(pack(folder))[1]) == 119


def test_folders_without_any_byte_of_features(tmp_path):
    (folder := tmp_path / "empty").mkdir()
    refused("empty: no features in it: expected files like COCO_train2014_", folder)
    (folder / "COCO_train2014_000000000007.jpg.npz").touch()
    refused("COCO_train2014_000000000007.jpg.npz: broken, or not an .npz", folder)


def test_broken_archives(folder):
    _, archive, tsv, *_ = kinds(folder)
    for path in (archive, tsv):
        path.write_bytes(path.read_bytes()[:-300])
    refused("archive.tar.gz: broken or cut short: ReadError: unexpected end of data", archive)
    refused("table.tsv: line 120: ", tsv)
    with tarfile.open(archive, "w:gz") as file:
        for _ in range(2):
            file.add(sorted(folder.iterdir())[0], "a/COCO_train2014_000000000007.jpg.npz")
    refused("archive.tar.gz: a/COCO_.*: features of image 7 once more", archive)
    with tarfile.open(archive, "w:gz") as file:
        file.add(__file__, "other.txt")
    refused("archive.tar.gz: no features in it", archive)
    archive.write_bytes(b"no archive")
    refused("archive.tar.gz: broken or cut short", archive)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"image_id\timage_w", "line 1: 2 columns, expected those of bottom-up attention .image_id, image_w, .*LXMERT"),
        (b"seven\t1\t1\t1\tAAAA\tAAAA", "line 1: image_id is 'seven', expected a number"),
        (b"7\t1\t1\t2\tAAAA\tAAAA", "line 1: not of numbers and float32 in base64"),
        (b"7\t1\t1\tinf\tAAAA\tAAAA", "line 1: not of numbers and float32 in base64"),
        (b"7\t1\t1\t1\t???\tA", "line 1: not of numbers and float32 in base64"),
        (b"7\t1\t0\t1\t" + b"A" * 22 + b"==\tAAAAAA==", "line 1: image_h is 0.0"),
    ],
)
def test_wrong_lines(tmp_path, line, message):
    path = tmp_path / "some.tsv"
    path.write_bytes(line + b"\r\n")
    refused(f"some.tsv: {message}", path)


@pytest.mark.parametrize("name", ["some.h5", "some.lmdb", "some.jpg", "nothing", "nothing.tar.gz"])
def test_other_sources(tmp_path, name):
    path = tmp_path / name
    if not name.startswith("nothing"):
        path.write_bytes(b"anything")
    refused(f"^{path}: ", path)
    assert [*tmp_path.iterdir()] == ([] if name.startswith("nothing") else [path])


def test_a_damaged_packed_file(folder, expected):
    packed = pack(folder)
    for size in (0, 7, 4000, len(expected) // 2, len(expected) - 1):
        packed.write_bytes(expected[:size])
        with pytest.raises(InputError, match=r"train2014\.safetensors: broken, or not a file of packed features"):
            open_packed(packed)
    for name, place in {"features": 5000, "sizes": len(expected) - 9}.items():
        content = bytearray(expected)
        content[place] ^= 1
        packed.write_bytes(content)
        open_packed(packed)
        with pytest.raises(InputError, match=f"{name} has the CRC-32 .*, expected .*: damaged since it was packed"):
            verify(packed)
    save_file({"x": np.zeros(3)}, packed)
    with pytest.raises(InputError, match="not a file of packed features: expected one made by"):
        open_packed(packed)


def test_a_folder_that_has_more_by_now(folder):
    pack(folder)
    image(folder / "COCO_train2014_000000999999.jpg.npz")
    refused("made when .* had not yet 1 of its images, such as 999999: delete it to pack all", folder)


def test_the_action_packs_what_the_settings_name(tmp_path, capsys):
    from rich.console import Console

    folder = tmp_path / "[b]" / "data[" / "i]"  # rich takes these for styles, and would stop at the second
    files = write_official(folder, vg=10)
    settings = tmp_path / "settings.yml"
    split = "{{questions: '{0.questions}', annotations: '{0.annotations}', features: {1}}}"
    vg = split.format(files.vg, f"['{files.train.features}', '{files.val.features}']")
    train, val = (split.format(each, f"'{each.features}'") for each in files[:2])
    settings.write_text(f"data:\n  train: [{train}, {vg}]\n  val: {val}\nspace: {{name: mcan}}\n")
    for ending in ("kB, of", "was there already"):
        pack_action.run(Console(width=500), settings)
        said = capsys.readouterr().out
        assert said.count(ending) == 2 and str(folder / "train2014.safetensors") in said
    assert {path.name for path in folder.glob("*.safetensors")} == {"train2014.safetensors", "val2014.safetensors"}
