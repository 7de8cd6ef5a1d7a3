"""The reader: what a batch holds, and that every mistake in a file is named."""

import io
import json
import shutil
import time
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_space.errors import InputError
from model_space.spaces.mcan import MCANSettings
from tests.helpers.tiny import space_of
from tests.helpers.tiny_vqa import write_split
from tests.helpers.vqa_targets import soft_targets, vocabulary_of
from trainer.data.features.npz import read_npz
from trainer.data.vocabulary import Vocabulary
from trainer.data.vqa import VQADataset, read_annotations, read_questions
from trainer.module import answer_logits

N_QUESTIONS = 60


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_split(tmp_path_factory.mktemp("vqa"), "train2014", 12, N_QUESTIONS, feature_size=6, seed=1)


@pytest.fixture(scope="module")
def vocabulary(files):
    questions, annotations = read_questions(files.questions), read_annotations(files.annotations)
    return vocabulary_of(questions[: N_QUESTIONS // 2], annotations, min_answer_count=1)


@pytest.fixture(scope="module")
def dataset(files, vocabulary):
    return VQADataset(*files, vocabulary)


def test_a_batch_holds_what_the_files_hold(files, vocabulary, dataset):
    rows = [5, 0, 41, 5]
    batch = dataset[rows]
    questions = json.loads(files.questions.read_text())["questions"]
    annotations = json.loads(files.annotations.read_text())["annotations"]
    region_counts, token_counts = [], []
    for place, row in enumerate(rows):
        with np.load(files.features / f"COCO_train2014_{questions[row]['image_id']:012d}.jpg.npz") as image:
            n = image["x"].shape[1]
            np.testing.assert_array_equal(batch.regions[place, :n], image["x"].T)
            np.testing.assert_allclose(batch.boxes[place, :n], image["bbox"], rtol=1e-6)
        region_counts.append(n)
        indices = vocabulary.encode(questions[row]["question"], 14)
        assert batch.tokens[place, : len(indices)].tolist() == indices
        token_counts.append(len(indices))
        targets = soft_targets(each["answer"] for each in annotations[row]["answers"])
        expected = [targets.get(answer, 0) for answer in vocabulary.answers]
        np.testing.assert_allclose(batch.targets[place], expected)
    assert batch.region_mask.sum(1).tolist() == region_counts and batch.regions.shape[1] == max(region_counts)
    assert batch.token_mask.sum(1).tolist() == token_counts and batch.tokens.shape[1] == max(token_counts)
    assert [each.dtype for each in batch] == [torch.float32] * 2 + [
        torch.bool,
        torch.int64,
        torch.bool,
        torch.float32,
    ]


def test_what_evaluation_needs_is_in_the_order_of_the_questions(files, vocabulary, dataset, tmp_path):
    content = json.loads(files.annotations.read_text())
    content["annotations"].reverse()
    reversed_file = tmp_path / "annotations.json"
    reversed_file.write_text(json.dumps(content))
    other = VQADataset(files.questions, reversed_file, files.features, vocabulary)
    assert list(other.question_ids) == list(dataset.question_ids) == [1000 + place for place in range(N_QUESTIONS)]
    assert other.annotations == dataset.annotations
    assert [each["question_id"] for each in dataset.annotations] == list(dataset.question_ids)
    types = {each["question_id"]: each["question_type"] for each in content["annotations"]}
    assert [each["question_type"] for each in dataset.annotations] == [types[each] for each in dataset.question_ids]
    assert {each["answer_type"] for each in dataset.annotations} == {"yes/no", "number", "other"}
    assert len(dataset) == N_QUESTIONS and dataset.feature_size == 6


def test_without_annotations_targets_are_zero(files, vocabulary):
    dataset = VQADataset(files.questions, None, files.features, vocabulary)
    assert dataset.annotations is None
    targets = dataset[[0, 1, 2]].targets
    assert targets.shape == (3, len(vocabulary.answers)) and not targets.any()


@settings(deadline=None)
@given(rows=st.lists(st.integers(0, N_QUESTIONS - 1), min_size=1, max_size=20))
def test_a_row_does_not_depend_on_the_others(dataset, rows):
    batch = dataset[rows]
    for place, row in enumerate(rows):
        alone = dataset[[row]]
        n, t = alone.regions.shape[1], alone.tokens.shape[1]
        assert alone.region_mask.all() and alone.token_mask.all()
        assert batch.region_mask[place].tolist() == [True] * n + [False] * (batch.regions.shape[1] - n)
        assert batch.token_mask[place].tolist() == [True] * t + [False] * (batch.tokens.shape[1] - t)
        assert torch.equal(batch.regions[place, :n], alone.regions[0]) and not batch.regions[place, n:].any()
        assert torch.equal(batch.boxes[place, :n], alone.boxes[0]) and not batch.boxes[place, n:].any()
        assert torch.equal(batch.tokens[place, :t], alone.tokens[0]) and not batch.tokens[place, t:].any()
        assert torch.equal(batch.targets[place], alone.targets[0])
    assert batch.regions.shape[1] == batch.region_mask.sum(1).max()
    assert batch.tokens.shape[1] == batch.token_mask.sum(1).max()


def test_long_questions_and_many_regions_lose_their_end(files, vocabulary, dataset):
    short = VQADataset(*files, vocabulary, max_tokens=3, max_regions=2)
    whole, cut = (each[range(N_QUESTIONS)] for each in (dataset, short))
    assert cut.tokens.shape[1] == 3 and cut.regions.shape[1] == 2
    assert torch.equal(cut.tokens, whole.tokens[:, :3]) and torch.equal(cut.token_mask, whole.token_mask[:, :3])
    assert torch.equal(cut.regions, whole.regions[:, :2]) and torch.equal(cut.boxes, whole.boxes[:, :2])


@pytest.mark.parametrize(("dtype", "feature_size"), [(np.float16, 5), (np.float32, 33)])
def test_any_feature_width_in_half_or_single_precision(tmp_path, dtype, feature_size):
    files = write_split(tmp_path, "val2014", 3, 20, feature_size, seed=2, dtype=dtype)
    vocabulary = vocabulary_of(read_questions(files.questions), read_annotations(files.annotations), 1)
    dataset = VQADataset(*files, vocabulary)
    batch = dataset[[0, 1]]
    assert batch.regions.numpy().dtype == dtype and batch.regions.shape[2] == feature_size
    network = space_of(dataset, MCANSettings(layers=1)).build()
    single = batch._replace(regions=batch.regions.float())
    assert torch.equal(answer_logits(network, batch), answer_logits(network, single))


def test_without_trimming_every_batch_has_as_many_regions(files, vocabulary, dataset):
    padded = VQADataset(*files, vocabulary, max_regions=11, trim=False)
    for rows in ([3], [5, 0, 41, 5]):
        whole, trimmed = padded[rows], dataset[rows]
        n = trimmed.regions.shape[1]
        assert n < 11 and whole.regions.shape == (len(rows), 11, 6) and whole.boxes.shape == (len(rows), 11, 4)
        for name in ("regions", "boxes", "region_mask"):
            assert torch.equal(getattr(whole, name)[:, :n], getattr(trimmed, name))
            assert not getattr(whole, name)[:, n:].any()
        for name in ("tokens", "token_mask", "targets"):
            assert torch.equal(getattr(whole, name), getattr(trimmed, name))


def test_an_empty_question_is_one_unknown_word(files, vocabulary, tmp_path):
    change_json(files.questions, tmp_path / "q.json", lambda questions: questions[3].update(question=" ?! "))
    batch = VQADataset(tmp_path / "q.json", files.annotations, files.features, vocabulary)[[3]]
    assert batch.tokens.tolist() == [[1]] and batch.token_mask.tolist() == [[True]]


# Mistakes in files


def change_json(source, target, change):
    """Copy a questions or annotations file; ``change`` gets its list of entries."""
    content = json.loads(source.read_text())
    change(content.get("questions") or content["annotations"])
    target.write_text(json.dumps(content))


def refuse(message, *arguments):
    """Reading ends in one line that holds the message."""
    with pytest.raises(InputError, match=message) as error:
        VQADataset(*arguments)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(files, vocabulary, tmp_path):
    nothing = tmp_path / "nothing.json"
    refuse(
        "nothing.json: a file of questions cannot be read: No such file",
        nothing,
        None,
        files.features,
        vocabulary,
    )
    refuse("nothing.json: a file of annotations cannot be read", files.questions, nothing, files.features, vocabulary)
    refuse("questions cannot be read: Is a directory", tmp_path, None, files.features, vocabulary)
    refuse("nothing.json: cannot read the folder", files.questions, None, nothing, vocabulary)
    refuse("cannot read the folder: Not a dir", files.questions, None, files.questions, vocabulary)


def test_swapped_files(files, vocabulary):
    questions, annotations, features = files
    refuse("not a file of questions: .* found .*'annotations'", annotations, questions, features, vocabulary)
    refuse("not a file of annotations: .* found .*'questions'", questions, questions, features, vocabulary)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1, column 1: not a file of questions: the JSON ends"),
        (
            b'{"questions": [\n{"question_id": 1,\n"image',
            "line 3, column 1: not a file of questions: the JSON ends or breaks here",
        ),
        (b"\xff\xfe{}", "cannot be read: not UTF-8"),
        (b"[" * 100_000, "JSON that cannot be read"),
        (b"[1, 2]", "expected the key 'questions', found no JSON object"),
        (b'{"questions": {}}', "not a file of questions"),
        (b'{"questions": []}', "holds no questions"),
        (b'{"questions": [7]}', r"questions\[0\]: question_id is missing, expected a whole number"),
        (
            b'{"questions": [{"question_id": "q7"}]}',
            r"questions\[0\]: question_id is 'q7', expected a whole number",
        ),
        (b'{"questions": [{"question_id": 7, "image_id": true}]}', "image_id is True"),
        (b'{"questions": [{"question_id": 9223372036854775808}]}', "question_id is 9223372036854775808"),
        (
            b'{"questions": [{"question_id": 7, "image_id": 1, "question": null}]}',
            "question is missing, expected text",
        ),
    ],
)
def test_not_a_questions_file(files, vocabulary, tmp_path, content, message):
    path = tmp_path / "questions.json"
    path.write_bytes(content)
    refuse(f"^{path}[:,].*{message}", path, None, files.features, vocabulary)


def delete(key):
    return lambda entries: entries[4].pop(key)


def update(**fields):
    return lambda entries: entries[4].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (delete("question_type"), r"annotations\[4\]: question_type is missing, expected text"),
        (delete("answers"), r"annotations\[4\]: answers is missing, expected a list"),
        (
            update(answer_type="yesno"),
            "question 1004: answer_type is 'yesno', expected one of 'yes/no', 'number', 'other'",
        ),
        (update(answers=[{"answer": "yes"}]), "question 1004: 1 answers, expected those of 10 people"),
        (update(answers=[{"text": "yes"}] * 10), "question 1004: expected answers of the form"),
        (update(answers=[["yes"]]), "question 1004: expected answers of the form"),
        (update(answers=[]), "question 1004: no answers, expected at least one"),
        (update(question_id=1000), "1 question ids occur more than once: 1000"),
        (update(image_id=999), "1 questions are about one image in the first, another in the second: 1004"),
        (update(question_id=5), "do not belong together: 1 questions have no annotation: 1004"),
        (
            lambda entries: entries.__delitem__(slice(5, 10)),
            "5 questions have no annotation: 1005, 1006, 1007, ...",
        ),
        (
            lambda entries: entries.append({**entries[0], "question_id": 5}),
            "1 annotations have no question: 5",
        ),
    ],
)
def test_wrong_annotations(files, vocabulary, tmp_path, change, message):
    path = tmp_path / "annotations.json"
    change_json(files.annotations, path, change)
    refuse(f"{path}.*{message}", files.questions, path, files.features, vocabulary)


def test_the_same_question_twice(files, vocabulary, tmp_path):
    path = tmp_path / "questions.json"
    change_json(files.questions, path, lambda questions: questions.extend(questions[:4]))
    refuse("4 question ids occur more than once: 1000, 1001, 1002, ...", path, None, files.features, vocabulary)


def test_a_vocabulary_of_other_data(files, vocabulary):
    no_words, no_answers = (
        Vocabulary(("PAD", "UNK", "zebu"), ("yes",)),
        Vocabulary(vocabulary.words, ("zebu",)),
    )
    refuse("none of the words of these questions", *files, no_words)
    refuse("none of these answers", *files, no_answers)


def test_an_image_without_features(files, vocabulary, tmp_path):
    features = tmp_path / "features"
    shutil.copytree(files.features, features)
    questions = read_questions(files.questions)
    image_id = questions[0]["image_id"]
    next(features.glob(f"*_{image_id:012d}.*")).unlink()
    message = f"no features of image {image_id}, which question 1000 of .*missing: 1.*_{image_id:012d}.jpg.npz"
    refuse(f"{features}: {message}", files.questions, None, features, vocabulary)


def test_an_image_with_two_files(files, vocabulary, tmp_path):
    features = tmp_path / "features"
    shutil.copytree(files.features, features)
    shutil.copy(next(features.iterdir()), features / "COCO_val2014_000000000001.jpg.npz")
    shutil.copy(next(features.iterdir()), features / "notes_about_1.txt")
    refuse(
        "two files of image 1: COCO_train2014_0.* and COCO_val2014_0",
        files.questions,
        None,
        features,
        vocabulary,
    )


WHOLE = {
    "x": np.ones((6, 3), "f4"),
    "bbox": np.ones((3, 4), "f4"),
    "image_w": np.int64(9),
    "image_h": np.int64(9),
}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": None}, "no array 'x'; expected x, bbox, image_w, image_h"),
        ({"bbox": None}, "no array 'bbox'"),
        ({"image_h": None}, "no array 'image_h'"),
        ({"x": np.ones((5, 3), "f4")}, "x has 5 features a region, COCO_train2014_0.* has 6"),
        ({"x": np.ones((6, 4), "f4")}, r"bbox is float32 \(3, 4\), expected numbers \(4, 4\)"),
        ({"bbox": np.ones((3, 5), "f4")}, r"bbox is float32 \(3, 5\)"),
        ({"x": np.ones((6, 0), "f4"), "bbox": np.ones((0, 4))}, "x has 0 regions of 6 features"),
        ({"x": np.ones((0, 3), "f4")}, "x has 3 regions of 0 features"),
        ({"x": np.ones(6, "f4")}, r"x is float32 \(6,\), expected numbers \(features, regions\)"),
        ({"x": np.ones((6, 3, 1), "f4")}, r"x is float32 \(6, 3, 1\), expected numbers \(features, regions\)"),
        ({"x": np.ones((6, 3), "c8")}, "x is complex64"),
        ({"x": np.ones((6, 3), "?")}, "x is bool"),
        ({"x": np.full((6, 3), 1e300)}, "x holds NaN or infinity"),
        ({"x": np.ones((3, 6), "f4")}, r"bbox is float32 \(3, 4\), .* or the other setting of data.transposed"),
        ({"bbox": np.full((3, 4), 1e300)}, "bbox holds NaN or infinity"),
        ({"x": np.full((6, 3), "a")}, "x is <U1"),
        ({"x": np.array([[0, np.nan, 0]] * 6, "f4")}, "x holds NaN or infinity"),
        ({"x": np.array([[0, np.inf, 0]] * 6, "f2")}, "x holds NaN or infinity"),
        ({"bbox": np.full((3, 4), -np.inf, "f4")}, "bbox holds NaN or infinity"),
        ({"bbox": np.full((3, 4), "a")}, "bbox is <U1"),
        ({"image_w": np.int64(0)}, "image_w is 0, expected a number of pixels above 0"),
        ({"image_h": np.float32("nan")}, "image_h is nan"),
        ({"image_h": np.ones((3, 3))}, "image_h is .* expected a number"),
        ({"x": np.array([[object()]])}, "broken, or not an .npz of plain arrays: ValueError: Object arrays"),
    ],
)
def test_wrong_arrays(files, vocabulary, tmp_path, arrays, message):
    features, path = with_one_file(files, tmp_path)
    np.savez(path, **{name: array for name, array in (WHOLE | arrays).items() if array is not None})
    refuse(f"^{path}: {message}", files.questions, None, features, vocabulary)


class Trap:
    """Unpickling it would leave a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (self.trace.write_text, ("sprung",))


def test_features_are_never_unpickled(files, vocabulary, tmp_path):
    features, path = with_one_file(files, tmp_path)
    trace = tmp_path / "trace"
    np.savez(path, **(WHOLE | {"x": np.array([[Trap(trace)]], dtype=object)}))
    refuse("Object arrays cannot be loaded", files.questions, None, features, vocabulary)
    path.write_bytes(np.array([Trap(trace)], dtype=object).dumps())
    refuse("broken, or not an .npz", files.questions, None, features, vocabulary)
    assert not trace.exists()


def test_files_that_are_no_npz(files, vocabulary, tmp_path):
    features, path = with_one_file(files, tmp_path)
    whole = path.read_bytes()
    one_array = io.BytesIO()
    np.save(one_array, np.ones((6, 3), "f4"))
    for content in (b"", b"no zip at all", whole[: len(whole) // 2], whole[:-1], one_array.getvalue()):
        path.write_bytes(content)
        refuse(f"^{path}: broken, or not an .npz of plain arrays", files.questions, None, features, vocabulary)


def test_an_array_that_says_it_is_huge(files, vocabulary, tmp_path):
    features, path = with_one_file(files, tmp_path)
    np.savez(path, **{name: array for name, array in WHOLE.items() if name != "x"})
    with zipfile.ZipFile(path, "a") as archive, archive.open("x.npy", "w") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (6, 10**15)}
        np.lib.format.write_array_header_1_0(file, header)
    refuse(f"^{path}: broken, or not an .npz", files.questions, None, features, vocabulary)


@settings(deadline=None, max_examples=150)
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_one_wrong_byte_is_an_input_error_or_harmless(files, place, bits):
    """Any byte of a features file may be wrong: nothing but an InputError comes of it."""
    path = files.features / "COCO_train2014_000000000002.jpg.npz"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= bits
    broken = files.features.parent / "broken.npz"
    broken.write_bytes(content)
    try:
        features, boxes = read_npz(broken)[:2]
    except InputError as error:
        assert str(error).startswith(f"{broken}: ") and "\n" not in str(error)
    else:
        assert len(features) == len(boxes)


def with_one_file(files, tmp_path):
    """A copy of the features, and the file in it that is read last."""
    features = tmp_path / "features"
    shutil.copytree(files.features, features)
    last = list(dict.fromkeys(question["image_id"] for question in read_questions(files.questions)))[-1]
    return features, features / f"COCO_train2014_{last:012d}.jpg.npz"


def test_batches_are_fast(files, vocabulary, dataset):
    """A loop over a batch's items would show here."""
    rows = torch.randint(N_QUESTIONS, (100, 64)).tolist()
    start = time.perf_counter()
    for row in rows:
        dataset[row]
    assert time.perf_counter() - start < 1.0  # 0.02 s on one idle core
