"""--check: every mistake of a data set in one run."""

import json
import re
import shutil

import hypothesis
import numpy as np
import pytest
import spacy
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from experiment.actions import check
from model_space.errors import InputError
from tests.helpers.official import write_official
from trainer.data.inspection.inspect import inspect_data
from trainer.data.packing.pack import pack
from trainer.data.questions import OR_AGREEMENT
from trainer.data.settings import DataSettings
from trainer.data.splits import load_data
from trainer.data.vocabulary import tokenise


@pytest.fixture
def official(tmp_path):
    return write_official(tmp_path, vg=20, regions=(10, 20))


def splits(official) -> dict:
    return {name: getattr(official, name)._asdict() for name in ("train", "val", "test")}


def looked_at(data: dict) -> tuple:
    """The findings that stop and the others, as split, what, count, examples; and the report."""
    report = inspect_data(DataSettings(min_answer_count=1, **data))
    found = {True: {}, False: {}}
    for each in report.findings:
        found[each.stops][each.split, each.what] = (each.count, each.examples)
    return found[True], found[False], report


def change(path, **changes):
    """Writes an .npz anew with other arrays."""
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})
    return path.name


def edit(path, key, mistake):
    content = json.loads(path.read_text())
    mistake(content[key])
    path.write_text(json.dumps(content))


def test_a_whole_data_set(official):
    stops, look, report = looked_at(splits(official))
    assert not stops and not look
    counts = [(len(s.questions), len(s.annotations), len(s.image_ids), len(s.images)) for s in report.splits]
    assert counts == [(40, 40, 12, 12), (20, 20, 6, 6), (20, 0, 6, 6)]
    assert {image.feature_size for split in report.splits for image in split.images.values()} == {16}
    assert len(report.vocabulary.answers) > 3 and report.word_vectors is None


def test_every_broken_feature_file_is_found(official):
    train = sorted(official.train.features.iterdir())
    names = [f"train2014/{path.name}" for path in train]
    regions = [np.load(path)["num_bbox"] for path in train]
    train[0].unlink()
    train[1].write_bytes(train[1].read_bytes()[:-100])
    change(train[2], x=np.ones((16, 0), "f4"), bbox=np.ones((0, 4), "f4"))
    change(train[3], x=np.full((16, regions[3]), np.nan, "f4"))
    change(train[4], x=np.full((16, regions[4]), np.inf, "f2"))
    change(train[5], x=np.ones((8, regions[5]), "f4"))
    change(train[6], x=np.array([[object()]]))
    change(train[7], bbox=None)
    change(train[8], image_w=10, image_h=10)
    change(train[9], x=np.ones((16, 101), "f4"), bbox=np.tile(np.array([[1, 1, 2, 2]], "f4"), (101, 1)))
    other = f"COCO_val2014_{train[10].name.split('_')[-1]}"
    shutil.copy(train[9], official.train.features / other)
    (official.train.features / "notes.txt").write_text("not a feature file")

    stops, look, report = looked_at(splits(official))
    image_id = int(names[0].split("_")[-1].split(".")[0])
    assert stops.pop(("train", f"images have no features in {official.train.features}")) == (1, [str(image_id)])
    assert stops.pop(("train", "x has 0 regions of 16 features, expected at least one")) == (1, [names[2]])
    nan = stops.pop(("train", "x holds NaN or infinity"))
    assert nan == (2, [names[3], names[4]])
    assert stops.pop(("train", "images have features of another width than 16")) == (1, [names[5]])
    no_boxes = (
        "no array 'bbox'; expected x, bbox, image_w, image_h, or the setting data.boxes: grid or none, which is of "
    )
    no_boxes += "features without boxes"
    assert stops.pop(("train", no_boxes)) == (1, [names[7]])
    two = stops.pop(("train", "images have features twice"))
    assert two == (1, [f"{names[10]} and train2014/{other}"])
    broken = {what: value for (_, what), value in stops.items()}
    assert len(broken) == 2 and all(what.startswith("broken, or not an .npz of plain arrays") for what in broken)
    assert sorted(broken.values()) == sorted([(1, [names[1]]), (1, [names[6]])])

    count, examples = look.pop(("train", "boxes outside their image"))
    assert count == regions[8] and examples == [names[8]]
    assert look == {
        ("train", "images have more than max_regions (100) regions, of which the first are taken"): (1, [names[9]])
    }
    assert report.stops


def test_every_mistake_of_the_entries_is_found(official):
    ids = [each["question_id"] for each in json.loads(official.train.questions.read_text())["questions"]]

    def of_questions(entries):
        entries[0]["question"] = " ?! "
        entries[1]["question"] = "what " * 200
        entries.extend(entries[5:9])

    def of_annotations(entries):
        entries[3]["answer_type"] = "yesno"
        entries[4]["answers"] = entries[4]["answers"][:3]
        entries[:] = [each for each in entries if each["question_id"] not in ids[30:35]]
        entries[0]["image_id"] += 1

    edit(official.train.questions, "questions", of_questions)
    edit(official.train.annotations, "annotations", of_annotations)
    stops, look, report = looked_at(splits(official))
    question_file, both = official.train.questions.name, f"{official.train.questions.name} and "
    assert stops.pop(("train", "question ids occur more than once"))[0] == 4
    count, examples = stops.pop(("train", "questions have no annotation"))
    assert count == 5 and examples[0].startswith(both) and str(min(ids[30:35])) in examples[0]
    assert stops.pop(("train", "questions are about one image in the first, another in the second"))[0] == 1
    assert [what for _, what in stops] == [
        f"answer_type is 'yesno', expected one of 'yes/no', 'number', 'other', {OR_AGREEMENT}",
        f"3 answers, expected those of 10 people, {OR_AGREEMENT}",
    ]
    assert look == {("train", "questions without a word"): (1, [str(ids[0])])}
    assert max(len(tokenise(each["question"])) for each in report.splits[0].questions) == 200
    assert len(report.splits[0].images) == 12  # the features were looked at all the same
    assert question_file in next(each.examples[0] for each in report.findings if "more than once" in each.what)

    edit(official.val.questions, "questions", lambda entries: [entry.pop("question") for entry in entries[:6]])
    stops, _, _ = looked_at(splits(official))
    count, examples = stops["val", "question is missing, expected text"]
    assert (count, examples) == (6, [f"{official.val.questions.name}: questions[{place}]" for place in range(3)])


def test_files_that_cannot_be_read_do_not_hide_the_others(official, tmp_path):
    official.train.questions.write_text('{"questions": [\n{"question_id": 1,')
    official.val.annotations.unlink()
    shutil.rmtree(official.test.features)
    data = splits(official) | {"answers": tmp_path / "no_answers.json", "word_vectors": "en_core_web_none"}
    stops, _, _ = looked_at(data)
    said = [what for _, what in stops]
    assert re.search(
        r"train2014_questions.json, line 2, column \d+: not a file of \w+: the JSON ends or breaks here", said[0]
    )
    assert "val2014_annotations.json: a file of annotations cannot be read: No such file" in said[1]
    assert "no_answers.json: a file of answers cannot be read: No such file" in said[2]
    assert "data.word_vectors: en_core_web_none: no folder" in said[3]
    assert "test2015: cannot read the folder: No such file" in said[4]
    assert len(said) == 5  # not that the images of test2015 have no features


def test_a_validation_split_without_answers(official):
    data = splits(official)
    stops, look, _ = looked_at(data | {"val": data["val"] | {"annotations": None}})
    assert not look
    assert stops == {("val", "no annotations are named, by which the accuracy of an epoch is measured"): (1, [])}


def test_packed_features(official):
    train = sorted(official.train.features.iterdir())
    image_id = int(train[0].name.split("_")[-1].split(".")[0])
    regions = len(np.load(train[0])["bbox"])
    change(train[0], image_w=10, image_h=10)
    _, look, report = looked_at(splits(official))
    files = [sorted(image) for image in (split.images.values() for split in report.splits)]
    for split in (official.train, official.val):
        pack(split.features)
        shutil.rmtree(split.features)
    stops, look, report = looked_at(splits(official))
    place = f"{official.train.features.name}.safetensors: image {image_id}"
    assert not stops and look == {("train", "boxes outside their image"): (regions, [place])}
    assert [sorted(image) for image in (split.images.values() for split in report.splits)] == files

    packed = official.val.features.with_name("val2014.safetensors")
    content = bytearray(packed.read_bytes())
    content[5000] ^= 1
    packed.write_bytes(content)
    stops, _, _ = looked_at(splits(official))
    assert any("val2014.safetensors: features has the CRC-32" in what for _, what in stops)
    packed.write_bytes(content[:-10])
    stops, _, _ = looked_at(splits(official))
    assert any("val2014.safetensors: broken" in what for _, what in stops)


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just([]) | st.just({})


@given(data=st.data())
@hypothesis.settings(deadline=None, max_examples=60)
def test_any_value_may_be_wrong(some_data, data):
    """Whatever stands in the place of a value, the check goes through to its end, and finds that reading would stop."""
    kind = data.draw(st.sampled_from(["questions", "annotations"]))
    path = getattr(some_data.train, kind)
    whole = path.read_text()
    content = json.loads(whole)
    entry = data.draw(st.sampled_from(content[kind]))
    target = data.draw(st.sampled_from([entry, entry["answers"][3]] if kind == "annotations" else [entry]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(JSON)
    path.write_text(json.dumps(content))
    try:
        _, _, report = looked_at(splits(some_data))
        try:
            load_data(DataSettings(min_answer_count=1, **splits(some_data)))
        except InputError:
            assert report.stops
        else:
            assert not report.stops
    finally:
        path.write_text(whole)


@pytest.fixture(scope="module")
def some_data(tmp_path_factory):
    return write_official(tmp_path_factory.mktemp("some"), regions=(2, 5))


def test_splits_that_overlap(official):
    data = splits(official)
    _, look, _ = looked_at(data | {"train": [data["train"], data["val"], official.vg._asdict()]})
    assert look["train 2 and val", "question ids in both"][0] == 20
    assert look["train 3 and val", "images in both"][0] > 0
    stops, _, _ = looked_at(data | {"train": [data["train"], data["train"]]})
    assert stops["train 1 and train 2", "question ids in both"][0] == 40


def test_a_vocabulary_of_other_data(official, tmp_path):
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps({"words": ["PAD", "UNK", "zebu"], "answers": ["zebu"]}))
    stops, _, _ = looked_at(splits(official) | {"vocabulary": path})
    assert ("val", "the vocabulary has none of the words of these questions") in stops
    assert ("val", "the vocabulary has none of these answers") in stops
    assert ("test", "the vocabulary has none of these answers") not in stops  # none are known


def test_files_of_two_releases(official, tmp_path):
    for path, key in ((official.val.questions, "questions"), (official.val.annotations, "annotations")):
        edit(
            path,
            key,
            lambda entries: [
                entry.update(question_id=entry["image_id"] * 10 + entry["question_id"] % 1000) for entry in entries
            ],
        )
    stops, _, _ = looked_at(splits(official))
    message = (
        f"{official.val.questions} is of VQA v1 and {official.test.questions} of v2: expected questions of one release"
    )
    assert stops == {("all", message): (1, [])}


def test_the_command(official, tmp_path):
    settings = tmp_path / "settings.yml"
    files = json.loads(json.dumps(splits(official), default=str))
    data = {**files, "min_answer_count": 1, "word_vectors": None}
    settings.write_text(yaml.safe_dump({"data": data, "space": {"name": "mcan", "layers": 1}}))

    def run() -> tuple[int, str]:
        console = Console(width=80, record=True, quiet=False, file=(tmp_path / "out.txt").open("w"))
        return check.run(console, settings), console.export_text()

    code, text = run()
    assert code == 0 and "all is well" in text and "word vectors: none, learned from scratch" in text
    assert re.search(r"vocabulary: \d+ words, \d+ answers", text) and re.search(r"train +40 +40 +12 +12 +1\d–\d", text)

    pipeline = spacy.blank("en")
    pipeline.vocab.set_vector("the", np.ones(4, "f4"))
    pipeline.to_disk(tmp_path / "vectors")
    settings.write_text(settings.read_text().replace("word_vectors: null", f"word_vectors: {tmp_path / 'vectors'}"))
    code, text = run()
    assert code == 2 and "expected embedding_dim: 4" in " ".join(text.split())
    settings.write_text(settings.read_text() + "network: {embedding_dim: 4}\n")
    code, text = run()
    assert code == 0 and re.search(r"vectors, 4 wide: 1 of \d+ words have a vector", " ".join(text.split()))

    train = sorted(official.train.features.iterdir())
    change(train[0], image_w=10, image_h=10)
    code, text = run()
    assert code == 1 and "nothing stops" in text and f"{train[0].name}" in text and "look" in text

    train[1].unlink()
    code, text = run()
    assert code == 2 and "1 of 2 findings stop a search or a training" in text and "images have no features" in text
