"""The generator: its files are those of the official form, and the reader takes them."""

import json

import numpy as np
import pytest

from tests.helpers.official import Official, write_official


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Official:
    return write_official(tmp_path_factory.mktemp("official"), vg=30)


def entries(path, key):
    return json.loads(path.read_text())[key]


def test_names_heads_and_ids_are_the_official_ones(files):
    names = sorted(path.name for path in files.train.questions.parent.iterdir())
    assert names == [
        "VG_annotations.json",
        "VG_questions.json",
        "test2015",
        "train2014",
        "v2_OpenEnded_mscoco_test-dev2015_questions.json",
        "v2_OpenEnded_mscoco_test2015_questions.json",
        "v2_OpenEnded_mscoco_train2014_questions.json",
        "v2_OpenEnded_mscoco_val2014_questions.json",
        "v2_mscoco_train2014_annotations.json",
        "v2_mscoco_val2014_annotations.json",
        "val2014",
    ]
    head = json.loads(files.train.questions.read_text())
    assert head.keys() == {"info", "license", "data_type", "task_type", "data_subtype", "questions"}
    assert head["data_subtype"] == "train2014" and head["info"]["version"] == "2.0"
    annotations = entries(files.train.annotations, "annotations")
    assert {each["question_id"] // 1000 for each in head["questions"]} == {each["image_id"] for each in annotations}
    assert all(each["question_id"] // 1000 == each["image_id"] for each in head["questions"])
    ids = [each["question_id"] for each in head["questions"]], [each["question_id"] for each in annotations]
    assert sorted(ids[0]) == sorted(ids[1]) and ids[0] != ids[1] and len(set(ids[0])) == 40
    test, test_dev = ({each["question_id"] for each in entries(each.questions, "questions")} for each in files[2:4])
    assert test_dev < test and files.test.annotations is None
    genome = entries(files.vg.annotations, "annotations")
    assert all(len({each["answer"] for each in annotation["answers"]}) == 1 for annotation in genome)
    assert len(genome) == 30 and not {each["question_id"] for each in genome} & {*ids[0]}


def test_features_are_those_of_mcan_vqa(files):
    for question in entries(files.train.questions, "questions"):
        with np.load(files.train.features / f"COCO_train2014_{question['image_id']:012d}.jpg.npz") as image:
            count = int(image["num_bbox"])
            assert image["x"].shape == (16, count) and image["bbox"].shape == (count, 4) and 10 <= count <= 100
            corners, size = image["bbox"].reshape(-1, 2, 2), [image["image_w"], image["image_h"]]
            assert (corners >= 0).all() and (corners <= size).all() and (corners[:, 0] <= corners[:, 1]).all()


def test_the_same_arguments_give_the_same_files(files, tmp_path):
    again = write_official(tmp_path, vg=30)
    for path in files.train.questions.parent.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / path.relative_to(files.train.questions.parent)).read_bytes(), path
    assert again.vg.features == (tmp_path / "train2014", tmp_path / "val2014")


def test_few_features_stand_under_many_names(tmp_path):
    files = write_official(tmp_path, images=(10, 5, 5), distinct=3)
    assert [len({path.stat().st_ino for path in each.features.iterdir()}) for each in files[:3]] == [3, 3, 3]
    assert len([*files.train.features.iterdir()]) == 10
