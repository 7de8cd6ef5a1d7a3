"""Where features come from: files read by batch, held in memory or packed give the same batches."""

import shutil
import zipfile

import numpy as np
import pytest
import torch

from model_space.errors import InputError
from tests.helpers.official import write_official
from trainer.data.features import folder as folder_module
from trainer.data.features.features import open_features
from trainer.data.features.folder import read_headers
from trainer.data.packing.pack import pack
from trainer.data.settings import DataSettings, SplitSettings
from trainer.data.splits import load_data
from trainer.data.vqa import loader

IMAGES = (14, 8, 4)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_official(tmp_path_factory.mktemp("official"), IMAGES, feature_size=6, vg=30, dtype=np.float16)


@pytest.fixture
def files(written, tmp_path):
    """A copy that may be changed."""
    folder = shutil.copytree(written.train.questions.parent, tmp_path / "data")
    return write_names(written, folder)


def write_names(written, folder):
    def moved(path):
        return path and folder / path.name

    return written._replace(
        **{
            name: split._replace(
                questions=moved(split.questions),
                annotations=moved(split.annotations),
                features=tuple(map(moved, split.features))
                if isinstance(split.features, tuple)
                else moved(split.features),
            )
            for name, split in written._asdict().items()
        }
    )


def settings(files, *parts, **changes) -> DataSettings:
    splits = {name: SplitSettings(**split._asdict()) for name, split in files._asdict().items()}
    train = tuple(splits[part] for part in parts or ("train",))
    return DataSettings(train=train, val=splits["val"], min_answer_count=1, **changes)


@pytest.fixture
def large(monkeypatch):
    """No features are small enough for the memory."""
    monkeypatch.setattr(folder_module, "IN_MEMORY", 0)


def same_batches(data, other):
    pairs = [(loader(data, 8, seed=1), loader(other, 8, seed=1)), (loader(data, 8), loader(other, 8))]
    for first, second in pairs:
        for batch, expected in zip(first, second, strict=True):
            for name, tensor, wanted in zip(batch._fields, batch, expected):
                assert torch.equal(tensor, wanted) and tensor.dtype == wanted.dtype, name


@pytest.mark.parametrize("options", [{}, {"max_regions": 20}, {"trim": False}, {"workers": 2}], ids=str)
def test_read_by_batch_packed_and_in_memory_are_the_same(files, monkeypatch, options):
    parts = settings(files, "train", "val", "vg", **options)
    in_memory = load_data(parts).train
    assert in_memory.workers == 0 and in_memory[[0]].regions.dtype == torch.float16
    monkeypatch.setattr(folder_module, "IN_MEMORY", 0)
    by_batch = load_data(parts).train
    assert by_batch.workers == options.get("workers", 0)
    same_batches(by_batch, in_memory)
    for folder in (files.train.features, files.val.features):
        pack(folder)
        shutil.rmtree(folder)
    packed = load_data(parts).train
    assert packed.workers == 0
    same_batches(packed, in_memory)


def test_parts_of_train_are_one_after_the_other(files):
    whole = load_data(settings(files, "train", "val", "vg"))
    assert len(whole.train) == 40 + 20 + 30 and len(whole.val) == 20
    parts = [load_data(settings(files, part, max_tokens=4)).train for part in ("train", "val")]
    both = load_data(settings(files, "train", "val", max_tokens=4)).train
    for name in ("question_ids", "image_ids", "annotations"):
        assert getattr(both, name) == getattr(parts[0], name) + getattr(parts[1], name), name
    assert torch.equal(both.lengths, torch.cat([part.lengths for part in parts]))
    batch = both[[3, 45, 0]]
    for place, (part, row) in enumerate([(0, 3), (1, 5), (0, 0)]):
        alone = parts[part][[row]]
        n = alone.regions.shape[1]
        assert torch.equal(batch.regions[place, :n], alone.regions[0]) and not batch.regions[place, n:].any()
        assert torch.equal(batch.boxes[place, :n], alone.boxes[0])


def test_half_and_single_precision_in_one_batch_are_single(files, tmp_path):
    single = write_official(tmp_path / "single", IMAGES, feature_size=6, seed=1)
    mixed = files._replace(val=single.val)
    data = load_data(settings(mixed, "train", "val")).train
    batch = data[[0, 41]]
    assert batch.regions.dtype == torch.float32
    alone = data[[0]].regions
    assert torch.equal(batch.regions[0, : alone.shape[1]], alone[0].float())


# What the headers of files say


def test_headers_are_read_once(files, large, monkeypatch):
    first = load_data(settings(files)).train
    assert (files.train.features.parent / "train2014.headers.npy").exists()
    calls, whole = [], folder_module.read_header
    monkeypatch.setattr(folder_module, "read_header", lambda path, form: calls.append(path) or whole(path, form))
    same_batches(load_data(settings(files)).train, first)
    assert not calls
    changed = next(iter(sorted(files.train.features.iterdir())))
    write_image(changed, regions=3)
    assert 3 in load_data(settings(files)).train.lengths
    assert len(calls) == IMAGES[0]


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_broken_headers_are_read_from_the_files(files, large, content):
    cache = files.train.features.parent / "train2014.headers.npy"
    cache.write_bytes(content)
    paths = sorted(files.train.features.iterdir())
    assert all(header.feature_size == 6 for header in read_headers(files.train.features, paths))
    assert np.load(cache).shape == (IMAGES[0], 6)


def test_a_folder_that_cannot_be_written_beside(files, large, monkeypatch):
    monkeypatch.setattr(folder_module.np, "save", refuse_to_write)
    assert len(load_data(settings(files)).train) == 40


def refuse_to_write(*arguments):
    raise PermissionError


# Mistakes


def write_image(path, **changes):
    regions = changes.pop("regions", 5)
    arrays = {"x": np.ones((6, regions), np.float16), "bbox": np.ones((regions, 4), np.float32)}
    np.savez(path, **(arrays | {"image_w": 9, "image_h": 9} | changes))


def some_image(files):
    return sorted(files.train.features.iterdir())[4]


def refused(message, function, *arguments):
    with pytest.raises(InputError, match=message) as error:
        function(*arguments)
    assert "\n" not in str(error.value)


class Trap:
    """Unpickling it would leave a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (self.trace.write_text, ("sprung",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones((7, 5), np.float16)}, "x has [67] features a region, COCO_.* has [67]"),
        ({"x": np.ones((6, 0), np.float16)}, "x has 0 regions of 6 features"),
        ({"x": np.ones((6, 5), bool)}, "x is bool"),
        ({"x": np.ones(6, np.float32)}, r"x is float32 \(6,\)"),
    ],
)
def test_a_wrong_header_is_found_at_the_start(files, large, changes, message):
    write_image(some_image(files), **changes)
    refused(f"^{files.train.features}/COCO.*: {message}", load_data, settings(files))


def test_broken_files_are_found_at_the_start_and_nothing_is_unpickled(files, large, tmp_path):
    path = some_image(files)
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        refused(f"^{path}: broken, or not an .npz of plain arrays", load_data, settings(files))
    write_image(path, x=np.array([[Trap(tmp_path / "trace")]], dtype=object))
    refused(f"^{path}: .*Object arrays cannot be loaded", load_data, settings(files))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(("name", "message"), [("x.npy", "x.npy is no array"), ("x", "no array 'x'")])
def test_a_member_that_is_no_array(files, name, message):
    path = some_image(files)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"text")
    refused(f"^{path}: .*{message}", load_data, settings(files))


def test_an_array_of_objects_beside_is_no_matter(files, large, tmp_path):
    """Bottom-up attention's extractor writes ``info``, a pickled dictionary."""
    write_image(some_image(files), info=np.array(Trap(tmp_path / "trace"), dtype=object))
    assert len(list(loader(load_data(settings(files)).train, 8))) == 5
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_batch_finds_is_one_line_also_of_a_process_of_the_loader(files, large, workers):
    path = some_image(files)
    write_image(path, bbox=np.full((5, 4), np.nan, np.float32))
    data = load_data(settings(files, workers=workers)).train
    refused(f"^{path}: bbox holds NaN or infinity$", list, loader(data, 8, seed=0))
    write_image(path, regions=2)
    refused(f"^{path}: has changed since the start, when its header was read$", list, loader(data, 8, seed=0))


def test_an_image_in_two_folders_or_in_none(files, tmp_path):
    path = some_image(files)
    shutil.copy(path, files.val.features)
    both = SplitSettings(**files.train._replace(features=(files.train.features, files.val.features))._asdict())
    data = settings(files).model_copy(update={"train": both})
    image_id = int(path.name[-20:-8])
    refused(f"^{files.val.features}: features of image {image_id} are also in {files.train.features}", load_data, data)
    (files.val.features / path.name).unlink()
    path.unlink()
    refused(
        f"^{files.train.features} and {files.val.features}: no features of image {image_id}, which question "
        rf"{image_id}\d\d\d of .*train2014_questions.json is about \(images missing: 1\)",
        load_data,
        data,
    )


def test_a_question_in_two_parts(files):
    refused("train2014_questions.json and .*: 40 question ids are in more than one of them", twice, files)


def twice(files):
    first = SplitSettings(**files.train._asdict())
    second = first.model_copy(update={"features": (first.features,)})
    return load_data(settings(files).model_copy(update={"train": (first, second)}))


def test_parts_of_two_widths(files, tmp_path):
    wide = write_official(tmp_path / "wide", IMAGES, feature_size=7, seed=1)
    refused("features of their images are 6, 7 wide", load_data, settings(files._replace(val=wide.val), "train", "val"))
    both = SplitSettings(**files.train._replace(features=(files.train.features, wide.val.features))._asdict())
    first_questions = {int(path.name[-20:-8]): 1 for each in both.features for path in each.iterdir()}
    refused(f"^{wide.val.features}: features are 7 wide", open_features, both.features, first_questions, "q.json", 100)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train2014.pth", "a file of one image"),
        ("train2014.npy", "a file of one image, .*expected a folder of .npz, of .pth .*LXMERT.*hdf5.*lmdb"),
        ("train2014.pkl", "without running code"),
        ("train2014.zip", "archive of another kind"),
        ("train2014.tar.gz", "make train2014.safetensors of it with launch.py --pack"),
        ("train2014.tsv", "make train2014.safetensors of it with launch.py --pack"),
        ("train2014.h5", "make train2014.safetensors of it with launch.py --pack"),
        ("train2014.hdf5", "make train2014.safetensors of it with launch.py --pack"),
        ("train2014.lmdb", "make train2014.safetensors of it with launch.py --pack"),
    ],
)
def test_other_forms_are_refused_by_name(files, name, message):
    path = files.train.features.parent / name
    path.write_bytes(b"anything")
    split = files.train._replace(features=path)
    refused(f"^{path}: .*{message}", load_data, settings(files._replace(train=split)))


def test_images_are_those_of_the_questions_alone(files, large):
    """A broken file that no question asks for stops nobody."""
    (files.train.features / "COCO_train2014_000000999999.jpg.npz").write_bytes(b"broken")
    assert len(load_data(settings(files)).train) == 40
