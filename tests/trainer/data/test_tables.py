"""Questions of one's own: tables, answers in any number, names of images, features in near forms."""

import gzip
import json
import shutil

import numpy as np
import pytest
import torch

from model_space.errors import InputError
from trainer.data.features.names import image_of, positions
from trainer.data.inspection.inspect import inspect_data
from trainer.data.packing.pack import pack
from trainer.data.questions import UNTYPED, read_annotations, read_questions
from trainer.data.settings import DataSettings
from trainer.data.splits import load_data
from trainer.evaluation.vqa_accuracy import Evaluator

ROWS = [
    {"image": "street/photo-1.jpg", "question": 'What, "exactly", is it?', "answers": ["a red car"]},
    {"image": "street/photo-2.jpg", "question": "How many dogs are there?", "answers": ["2", "2", "3"]},
    {"image": "17", "question": "Is it a dög?", "answers": ["yes", "no"]},
    {
        "image": "cat_4.png",
        "question": "What is it?",
        "answers": ["cat", "cat", *(f"cat {letter}" for letter in "bcdefghijk")],
    },
]
"""Four questions in the form of a table."""
IDS = ["street/photo-1", "street/photo-2", 17, "cat_4"]


def write_csv(path, rows=ROWS, delimiter=","):
    def quoted(cell):
        return '"{}"'.format(cell.replace('"', '""'))

    lines = [delimiter.join(rows[0])]
    lines += [
        delimiter.join(quoted(cell if isinstance(cell, str) else "|".join(cell)) for cell in row.values())
        for row in rows
    ]
    content = "\r\n".join(lines).encode("utf-8-sig")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_json_lines(path):
    text = "\n".join(json.dumps(row) for row in ROWS) + "\n\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_parquet(path):
    from pyarrow import Table
    from pyarrow.parquet import write_table

    write_table(Table.from_pylist(ROWS), path)
    return path


def write_features(folder, **changes):
    """Features of the four images, of 3, 4, 5 and 6 regions, and of one more."""
    for regions, name in enumerate(("street/photo-1.jpg", "street/photo-2", "17", "cat_4", "dog_5"), start=3):
        path = folder / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(regions)
        arrays = {"x": rng.normal(size=(6, regions)), "bbox": np.tile([1, 2, 3, 4], (regions, 1))}
        np.savez(path, **arrays, image_w=8, image_h=9)
    return folder


def data_of(table, features, **changes) -> DataSettings:
    split = {"questions": table, "features": features}
    return DataSettings(**{"train": split, "val": split, "min_answer_count": 1, "accuracy": "agreement"} | changes)


def refused(message, function, *arguments):
    with pytest.raises(InputError, match=message) as error:
        function(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_csv, "mine.csv"),
        (lambda path: write_csv(path, delimiter=";"), "mine.csv"),
        (lambda path: write_csv(path, delimiter="\t"), "mine.tsv"),
        (write_csv, "mine.csv.gz"),
        (write_json_lines, "mine.jsonl"),
        (write_json_lines, "mine.jsonl.gz"),
        (write_parquet, "mine.parquet"),
    ],
)
def test_every_form_of_a_table_says_the_same(tmp_path, write, name):
    table = write(tmp_path / name)
    questions, annotations = read_questions(table), read_annotations(table)
    assert [each["image_id"] for each in questions] == [each["image_id"] for each in annotations] == IDS
    assert [each["question"] for each in questions] == [row["question"] for row in ROWS]
    assert [[each["answer"] for each in annotation["answers"]] for annotation in annotations] == [
        row["answers"] for row in ROWS
    ]
    assert [each["multiple_choice_answer"] for each in annotations] == ["a red car", "2", "yes", "cat"]
    assert {each[kind] for each in annotations for kind in ("question_type", "answer_type")} == {UNTYPED}
    ids = [each["question_id"] for each in questions]
    assert ids == [each["question_id"] for each in annotations] and [number % 1000 for number in ids] == [1, 2, 3, 4]


def test_numbers_of_rows_differ_from_file_to_file(tmp_path):
    (tmp_path / "val").mkdir()
    tables = [read_questions(write_csv(tmp_path / name)) for name in ("one.csv", "two.csv", "val/one.csv")]
    assert len({each["question_id"] for table in tables for each in table}) == 3 * len(ROWS)


def test_a_row_of_digits_that_no_number_holds_is_a_name():
    assert [image_of(digits * "9") for digits in (18, 19, 5000)] == [10**18 - 1, 19 * "9", 5000 * "9"]
    assert positions(["cat_" + 5000 * "9"]) == {"cat_" + 5000 * "9": 0}


def test_vqa2_as_it_is_on_the_hub(tmp_path):
    """Columns of the Parquet files there: pictures beside the numbers of images, and answers with what people said."""
    from pyarrow import Table
    from pyarrow.parquet import write_table

    given = [{"answer": "yes", "answer_confidence": "maybe", "answer_id": number} for number in range(1, 11)]
    row = {
        "question_type": "is this",
        "multiple_choice_answer": "yes",
        "answers": given,
        "image_id": 262148,
        "answer_type": "yes/no",
        "question_id": 262148000,
        "question": "Is this a dog?",
        "image": {"bytes": b"pixels", "path": "COCO_val2014_000000262148.jpg"},
    }
    write_table(Table.from_pylist([row]), tmp_path / "val.parquet")
    assert read_questions(tmp_path / "val.parquet") == [
        {"question_id": 262148000, "image_id": 262148, "question": "Is this a dog?"}
    ]
    (annotation,) = read_annotations(tmp_path / "val.parquet")
    assert annotation == {key: row[key] for key in row if key not in ("question", "image")} | {
        "answers": [{"answer": "yes"}] * 10
    }
    write_table(Table.from_pylist([{key: row[key] for key in row if key != "image_id"}]), tmp_path / "val.parquet")
    assert read_questions(tmp_path / "val.parquet")[0]["image_id"] == 262148


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.csv", b"", "holds no questions"),
        ("mine.csv", b"image,question,answer\n", "holds no questions"),
        (
            "mine.csv",
            b"picture,question\n1,what\n",
            "line 2: no column 'image_id' or 'image'; found 'picture', 'question'",
        ),
        ("mine.csv", b"image,text\n1,what\n", "line 2: no column 'question'"),
        ("mine.csv", b"image,question\n1,what,now\n", "line 2: 3 cells, expected 2: image, question"),
        ("mine.csv", b'image,question\n1,"what\n', "line 2: not CSV: unexpected end of data"),
        ("mine.csv", b"image,question\n1,\n", r"questions\[0\]: question is missing, expected text"),
        (
            "mine.csv",
            b"image,question\n,what\n",
            r"questions\[0\]: image_id is missing, expected a whole number or a name",
        ),
        (
            "mine.csv",
            b"question_id,image,question\n%s,1,what\n" % (b"9" * 5000),
            r"questions\[0\]: question_id is '999",
        ),
        ("mine.csv", b"image,question\n1,\xff\n", "cannot be read: UnicodeDecodeError"),
        ("mine.csv", b"question_id,image,question\nq1,1,what\n", r"questions\[0\]: question_id is 'q1'"),
        ("mine.csv.gz", gzip.compress(b"image,question\n1,what\n", mtime=0)[:-12], "cannot be read: EOFError"),
        ("mine.csv.gz", b"\x1f\x8bno gzip", "cannot be read"),
        (
            "mine.jsonl",
            b'{"image": 1, "question": "what"}\n{"image": 1, ',
            "row 2, line 1, column .*not a row of a table",
        ),
        ("mine.jsonl", b"[1, 2]\n", "line 1: expected an object of columns"),
        ("mine.jsonl", b'{"image": 1.5, "question": "what"}\n', r"questions\[0\]: image_id is 1.5, expected a whole"),
        ("mine.parquet", b"", "not Parquet, or cut short"),
        ("mine.parquet", b"PAR1 and nothing more PAR1", "not Parquet, or cut short"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    refused(f"^{path}[:,].*{message}", read_questions, path)


def test_no_table_and_no_answers(tmp_path):
    refused("^.*absent.csv: a table cannot be read: No such file", read_questions, tmp_path / "absent.csv")
    table = write_csv(tmp_path / "test.csv", [{key: row[key] for key in ("image", "question")} for row in ROWS])
    refused(
        "no column 'answers' or .*; found .*; where no answers are known, .* annotations: null", read_annotations, table
    )
    settings = data_of(write_csv(tmp_path / "mine.csv"), "features", test={"questions": table, "features": "features"})
    assert settings.train.annotations == tmp_path / "mine.csv" and settings.test.annotations == table
    split = {"questions": table, "features": "features", "annotations": None}
    assert settings.model_validate(settings.model_dump() | {"test": split}).test.annotations is None


def test_one_to_any_number_of_answers(tmp_path):
    table, features = write_csv(tmp_path / "mine.csv"), write_features(tmp_path / "features")
    data = load_data(data_of(table, features))
    answers = data.vocabulary.answers
    targets = [{answers[i]: row[i].item() for i in row.nonzero()[:, 0]} for row in data.train[[0, 1, 2, 3]].targets]
    assert targets == [
        {"red car": 1},
        {"2": 1},
        {"yes": 1},
        {"cat": pytest.approx(2 / 12 / 0.3)},
    ]
    evaluate = Evaluator(data.val.annotations, "agreement")
    ids = list(data.val.question_ids)
    assert evaluate(dict(zip(ids, ("A RED car.", "three", "maybe", "Cat k")))).per_question == {
        ids[0]: 100,
        ids[1]: 100,
        ids[2]: 0,
        ids[3]: pytest.approx(100 / 12 / 0.3),
    }
    other_val = {"questions": write_csv(tmp_path / "val.csv"), "features": features}
    refused(
        "mine.csv: question .*: 12 answers, expected those of 10 people, or the setting data.accuracy: agreement",
        load_data,
        data_of(table, features, accuracy="official", val=other_val),
    )
    refused(
        "question .* has 1 answers: the accuracy 'official' is that of 10; .* agreement",
        Evaluator,
        data.val.annotations,
    )


def test_few_answers_are_refused_before_a_training_that_could_not_be_evaluated(tmp_path):
    """Visual Genome, which has no types, may be trained on with one answer; nothing can be measured by it."""
    table, features = write_csv(tmp_path / "mine.csv", ROWS[:3]), write_features(tmp_path / "features")
    message = "question .*: 1 answers, expected those of 10 people, or the setting data.accuracy: agreement"
    settings = data_of(table, features, accuracy="official")
    refused(f"mine.csv: {message}", load_data, settings)
    found = [
        (each.split, each.stops) for each in inspect_data(settings).findings if "people, or the setting" in each.what
    ]
    assert found == [("val", True)]


def test_agreement_of_ten_people_leaves_nobody_out():
    def accuracy(variant, count):
        given = [{"answer": "red"}] * count + [{"answer": "blue"}] * (10 - count)
        annotation = {"question_id": 1, "answers": given, "answer_type": "colour", "question_type": "what"}
        return Evaluator([annotation], variant)({1: "red"}).overall

    assert [round(accuracy("agreement", count)) for count in range(5)] == [0, 33, 67, 100, 100]
    assert [round(accuracy("official", count)) for count in range(5)] == [0, 30, 60, 90, 100]


def test_annotations_that_say_less_in_json(tmp_path):
    questions = [
        {"question_id": "1", "image_id": "17", "question": "What?"},
        {"question_id": 2, "image_id": "a.JPG", "question": "Who?"},
    ]
    annotations = [
        {"question_id": 1, "image_id": 17, "answer": "dog"},
        {"question_id": "2", "image_id": "a", "answers": ["me", 2]},
    ]
    for kind, entries in (("questions", questions), ("annotations", annotations)):
        text = json.dumps({kind: entries})
        (tmp_path / f"{kind}.json").write_bytes(gzip.compress(text.encode("utf-8-sig")))
    assert [(each["question_id"], each["image_id"]) for each in read_questions(tmp_path / "questions.json")] == [
        (1, 17),
        (2, "a"),
    ]
    found = read_annotations(tmp_path / "annotations.json")
    assert [each["answers"] for each in found] == [[{"answer": "dog"}], [{"answer": "me"}, {"answer": "2"}]]
    assert [each["multiple_choice_answer"] for each in found] == ["dog", "me"]


@pytest.mark.parametrize("packed", [False, True])
def test_images_are_found_by_name_and_by_number(tmp_path, packed):
    table, features = write_csv(tmp_path / "mine.csv"), write_features(tmp_path / "features")
    numbers = write_csv(tmp_path / "numbers.csv", [ROWS[2], ROWS[3] | {"image": "4"}])
    if packed:
        assert pack(features) == pack(features)
    data = load_data(data_of(table, features))
    assert data.train.lengths.tolist() == [3, 4, 5, 6] and list(data.train.image_ids) == IDS
    assert torch.equal(load_data(data_of(numbers, features)).train[[0, 1]].regions, data.train[[2, 3]].regions)
    wrong = write_csv(tmp_path / "wrong.csv", [ROWS[0] | {"image": "bird_4.jpg"}])
    refused(
        "no features of image bird_4, which question .*; expected a file like bird_4.npz",
        load_data,
        data_of(wrong, features),
    )


def test_a_number_that_two_names_end_in_finds_neither(tmp_path):
    features = write_features(tmp_path / "features")
    shutil.copy(features / "cat_4.npz", features / "bird_4.npz")
    numbers = write_csv(tmp_path / "numbers.csv", [ROWS[3] | {"image": "4"}])
    refused("no features of image 4,", load_data, data_of(numbers, features))
    pack(features)
    refused("no features of image 4,", load_data, data_of(numbers, features))
    assert load_data(data_of(write_csv(tmp_path / "mine.csv"), features)).train.lengths.tolist() == [3, 4, 5, 6]


def test_packing_that_was_cut_knows_the_names(tmp_path, monkeypatch):
    features = write_features(tmp_path / "features")
    whole = pack(features).read_bytes()
    (tmp_path / "features.safetensors").unlink()

    def stop(images, done, total):
        if images == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(features, stop)
    assert pack(features).read_bytes() == whole


def reformed(folder, **settings):
    """The only image of a folder under some settings: regions and boxes, read by file and once packed."""
    table = write_csv(folder.with_name("mine.csv"), [ROWS[2]])
    batch = load_data(data_of(table, folder, **settings)).train[[0]]
    DATA = data_of(table, folder, **settings)
    pack(folder, form=DATA.form)
    again = load_data(DATA).train[[0]]
    torch.testing.assert_close(again.regions.float(), batch.regions.float(), rtol=1e-3, atol=1e-3)
    assert torch.equal(again.boxes, batch.boxes)
    return batch.regions[0], batch.boxes[0]


@pytest.mark.parametrize("dtype", ["f8", ">f4", ">f2", "i8", "u1", "f2"])
def test_numbers_of_any_type(tmp_path, dtype):
    (tmp_path / "features").mkdir()
    x = np.asfortranarray(np.arange(12).reshape(4, 3).astype(dtype))
    np.savez(tmp_path / "features/17.npz", x=x, bbox=np.ones((3, 4), "i2"), image_w=8, image_h=9)
    regions, _ = reformed(tmp_path / "features")
    assert torch.equal(regions.float(), torch.arange(12.0).reshape(4, 3).T)
    assert regions.dtype == (torch.float16 if dtype.endswith("f2") else torch.float32)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_a_grid_has_the_boxes_of_its_cells(tmp_path, transposed, flat):
    (tmp_path / "features").mkdir()
    x = np.arange(4 * 2 * 2).reshape(4, 2, 2).astype("f4")
    shaped = x.reshape(4, 4) if flat else x
    np.savez(
        tmp_path / "features/17.npz", x=np.moveaxis(shaped, 0, -1) if transposed else shaped, image_w=80, image_h=40
    )
    regions, boxes = reformed(tmp_path / "features", transposed=transposed, boxes="grid")
    assert torch.equal(regions, torch.from_numpy(x.reshape(4, 4).T))
    assert boxes.tolist() == [[0, 0, 40, 20], [40, 0, 80, 20], [0, 20, 40, 40], [40, 20, 80, 40]]


def test_features_without_boxes_or_size(tmp_path):
    (tmp_path / "features").mkdir()
    x = np.arange(12).reshape(3, 4).astype("f4")
    np.savez(tmp_path / "features/17.npz", x=x)
    regions, boxes = reformed(tmp_path / "features", transposed=True, boxes="none")
    assert torch.equal(regions, torch.from_numpy(x)) and not boxes.any()
    (tmp_path / "features.safetensors").unlink()
    table = tmp_path / "mine.csv"
    refused(
        "no array 'bbox'; .* or the setting data.boxes: grid or none", load_data, data_of(table, tmp_path / "features")
    )
    refused(
        r"x is \(3, 4\), whose 3 regions are no square; expected \(rows, columns, features\)",
        load_data,
        data_of(table, tmp_path / "features", boxes="grid", transposed=True),
    )
    np.savez(tmp_path / "features/17.npz", x=x.T, bbox=np.ones((3, 4)))
    assert reformed(tmp_path / "features")[1].tolist() == [[1, 1, 1, 1]] * 3


def test_headers_are_read_again_for_another_form(tmp_path, monkeypatch):
    from trainer.data.features import folder as folder_module

    monkeypatch.setattr(folder_module, "IN_MEMORY", 0)
    (tmp_path / "features").mkdir()
    np.savez(tmp_path / "features/17.npz", x=np.ones((4, 4, 2), "f4"))
    table = write_csv(tmp_path / "mine.csv", [ROWS[2]])
    for transposed, expected in ((False, (8, 4)), (True, (16, 2)), (False, (8, 4))):
        data = load_data(data_of(table, tmp_path / "features", transposed=transposed, boxes="grid"))
        assert tuple(data.train[[0]].regions[0].shape) == expected
