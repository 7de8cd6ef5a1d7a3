"""Question and annotation files: releases, splits and tasks told apart, Visual Genome's form, answers that share."""

import json
from pathlib import Path

import pytest

from model_space.errors import InputError
from tests.helpers.official import write_official
from trainer.data.questions import UNTYPED, matched, read_annotations, read_questions, release, split_name


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_official(tmp_path_factory.mktemp("official"), vg=15)


def as_v1(files, folder: Path) -> tuple[Path, Path]:
    """The same questions under VQA v1's names and numbers: image_id * 10 + n."""
    written = []
    for path, kind in ((files.questions, "questions"), (files.annotations, "annotations")):
        content = json.loads(path.read_text())
        content["info"] = {"version": "1.0"}
        for entry in content[kind]:
            entry["question_id"] = entry["image_id"] * 10 + entry["question_id"] % 1000
        written.append(folder / path.name.removeprefix("v2_"))
        written[-1].write_text(json.dumps(content))
    return tuple(written)


def pair(questions: Path, annotations: Path) -> list[dict]:
    return matched(read_questions(questions), questions, read_annotations(annotations), annotations)


def refuse(message, call, *arguments):
    with pytest.raises(InputError, match=message) as error:
        call(*arguments)
    assert "\n" not in str(error.value)


def test_official_files_pair_in_the_order_of_the_questions(official):
    for files in (official.train, official.val, official.vg):
        annotations = pair(files.questions, files.annotations)
        assert [each["question_id"] for each in annotations] == [
            each["question_id"] for each in read_questions(files.questions)
        ]


def test_releases_are_told_apart(official, tmp_path):
    questions, annotations = as_v1(official.train, tmp_path)
    assert len(pair(questions, annotations)) == 40  # v1 alone is a data set like any other
    for path, expected in (
        (questions, "v1"),
        (official.train.questions, "v2"),
        (official.test.questions, "v2"),
        (official.vg.questions, None),
    ):
        assert release((each["question_id"], each["image_id"]) for each in read_questions(path)) == expected
    mixed = "do not belong together: the release of the first is v1, that of the second v2: expected files of one"
    refuse(f"{questions} and {official.train.annotations} {mixed}", pair, questions, official.train.annotations)


def test_annotations_of_another_split(official):
    message = "do not belong together: the split of the first is train2014, that of the second val2014"
    refuse(
        f"{official.train.questions} and {official.val.annotations} {message}",
        pair,
        official.train.questions,
        official.val.annotations,
    )


def test_the_split_may_stand_behind_the_entries(tmp_path):
    path = tmp_path / "questions.json"
    path.write_text('{"questions": [], "data_subtype" : "test-dev2015"}')
    assert split_name(path) == "test-dev2015"


def test_multiple_choice_is_refused_by_name(official, tmp_path):
    content = json.loads(official.train.questions.read_text())
    for question in content["questions"]:
        question["multiple_choices"] = ["yes", "no"]
    path = tmp_path / "MultipleChoice_mscoco_train2014_questions.json"
    path.write_text(json.dumps(content | {"task_type": "Multiple-Choice"}))
    refuse(f"^{path}: .*multiple-choice task.*expected .*OpenEnded_mscoco_", read_questions, path)


def test_visual_genome_has_no_types(official, tmp_path):
    annotations = read_annotations(official.vg.annotations)
    assert {each["answer_type"] for each in annotations} == {each["question_type"] for each in annotations} == {UNTYPED}

    content = json.loads(official.vg.annotations.read_text())
    content["annotations"][3]["answers"] = content["annotations"][3]["answers"][:1]
    path = tmp_path / "VG_annotations.json"
    path.write_text(json.dumps(content))
    assert len(read_annotations(path)[3]["answers"]) == 1
    content["annotations"][3]["answers"] = []
    path.write_text(json.dumps(content))
    refuse("no answers, expected at least one", read_annotations, path)


def test_equal_answers_share_their_dictionary(official):
    answers = [answer for each in read_annotations(official.train.annotations) for answer in each["answers"]]
    assert len({id(answer) for answer in answers}) == len({answer["answer"] for answer in answers}) < len(answers)
