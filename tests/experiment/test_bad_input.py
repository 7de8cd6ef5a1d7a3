"""What a researcher's files may get wrong: one line with the file and the place, exit code 2, and nothing written."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from experiment.actions import check, train, val
from experiment.settings import read_settings
from model_space.architecture import Architecture
from model_space.errors import InputError
from tests.helpers.official import write_official
from tests.helpers.paths import ROOT
from trainer.callbacks.checkpoint import load_checkpoint
from trainer.data.splits import load_data

CONSOLE = Console(quiet=True)
SPACE = {
    "space": {"name": "stacked", "edges": "one", "cells": 1, "nodes": 1},
    "network": {"hidden": 16, "heads": 2, "embedding_dim": 8, "flat_mlp_size": 16, "flat_out_size": 16},
    "train": {"epochs": 1, "steps_per_epoch": 1, "batch_size": 8},
}


class Project:
    """Official files, settings that name them, and an architecture to train."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = write_official(folder / "vqa", questions=(24, 12, 8), regions=(2, 5))
        self.settings = folder / "settings.yml"
        splits = {name: getattr(self.files, name)._asdict() for name in ("train", "val", "test")}
        self.data = json.loads(json.dumps(splits, default=str)) | {"min_answer_count": 1}
        self.write()

    def write(self, **data) -> None:
        self.data |= data
        self.settings.write_text(yaml.safe_dump({"data": self.data, **SPACE}))

    def train(self) -> Path:
        architecture = self.folder / "architecture.json"
        if not architecture.exists():
            settings = read_settings(self.settings)
            space = settings.space_for(load_data(settings.data).sizes)
            architecture.write_text(Architecture(space=space, choices=space.random_choices(0)).to_json())
        train.run(CONSOLE, architecture, settings=self.settings, folder=self.folder / "run")
        return self.folder / "run" / "last.ckpt"

    def refuse(self, message: str, call, *arguments, **options) -> None:
        with pytest.raises(InputError, match=message) as error:
            call(*arguments, **options)
        assert "\n" not in str(error.value)


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    made.train()
    shutil.rmtree(tmp_path / "run")
    return made


def first_features(files) -> Path:
    return min(files.features.iterdir())


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def with_arrays(path: Path, **changes) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | changes)


def edit(path: Path, key: str, mistake) -> None:
    content = json.loads(path.read_text())
    mistake(content[key])
    path.write_text(json.dumps(content))


MISTAKES = {
    "annotations of another split": (
        lambda files: shutil.copy(files.val.annotations, files.train.annotations),
        "train2014_questions.json and .*train2014_annotations.json .*split of the first is train2014.*second val2014",
    ),
    "annotations of another release": (
        lambda files: edit(
            files.train.annotations,
            "annotations",
            lambda entries: [
                each.update(question_id=each["image_id"] * 10 + each["question_id"] % 10) for each in entries
            ],
        ),
        "release of the first is v2, that of the second v1",
    ),
    "splits of two releases": (
        lambda files: [
            edit(
                path,
                path.stem.rpartition("_")[2],
                lambda entries: [
                    each.update(question_id=each["image_id"] * 10 + each["question_id"] % 10) for each in entries
                ],
            )
            for path in (files.val.questions, files.val.annotations)
        ],
        "val2014_questions.json is of VQA v1 and .*train2014_questions.json of v2: expected questions of one release",
    ),
    "questions cut short": (
        lambda files: cut_short(files.train.questions),
        r"train2014_questions.json, line 1, column \d+: not a file of \w+: the JSON ends or breaks here",
    ),
    "annotations cut short": (
        lambda files: cut_short(files.val.annotations),
        r"val2014_annotations.json, line 1, column \d+: not a file of \w+: the JSON ends or breaks here",
    ),
    "a question without annotation": (
        lambda files: edit(files.val.annotations, "annotations", lambda entries: entries.pop()),
        "1 questions have no annotation: ",
    ),
    "an id twice": (
        lambda files: edit(files.train.questions, "questions", lambda entries: entries.append(entries[0])),
        "train2014_questions.json: 1 question ids occur more than once: ",
    ),
    "an image without features": (
        lambda files: first_features(files.train).unlink(),
        "train2014: no features of image ",
    ),
    "features of another width": (
        lambda files: [
            with_arrays(path, x=np.ones((8, len(np.load(path)["bbox"])), "f4")) for path in files.val.features.iterdir()
        ],
        "features are 8 wide, those of .* 16|x has 8 features",
    ),
    "a truncated zip": (lambda files: cut_short(first_features(files.train)), "npz: broken, or not an .npz"),
    "no region": (
        lambda files: with_arrays(first_features(files.train), x=np.ones((16, 0), "f4"), bbox=np.ones((0, 4))),
        "npz: x has 0 regions of 16 features, expected at least one",
    ),
    "not a number": (
        lambda files: with_arrays(
            first_features(files.train), bbox=np.full_like(np.load(first_features(files.train))["bbox"], np.nan)
        ),
        "npz: bbox holds NaN or infinity",
    ),
    "an object array": (
        lambda files: with_arrays(first_features(files.train), x=np.array([[1, "pickled"]], dtype=object)),
        "npz: broken, or not an .npz of plain arrays: .*[Oo]bject",
    ),
    "multiple choice": (
        lambda files: edit(
            files.train.questions,
            "questions",
            lambda entries: [each.update(multiple_choices=["a"]) for each in entries],
        ),
        "train2014_questions.json: questions of VQA v1's multiple-choice task",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_file_stops_before_anything_is_written(project, name):
    make, message = MISTAKES[name]
    make(project.files)
    project.refuse(message, project.train)
    assert not (project.folder / "run").exists()
    assert check.run(CONSOLE, project.settings) == 2


def test_launch_says_one_line_and_exits_with_2(project):
    cut_short(project.files.val.annotations)
    launch = ROOT / "launch.py"
    command = [sys.executable, launch, "--train", project.folder / "architecture.json", "--settings", project.settings]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=project.folder)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1 and "val2014_annotations.json, line 1, column" in ended.stderr


def test_answers_of_another_vocabulary(project):
    checkpoint = project.train()
    content = load_checkpoint(checkpoint)
    content["vocabulary"]["answers"].append("zebu")
    torch.save(content, project.folder / "other.ckpt")
    project.refuse(
        r"other.ckpt: vocabulary: \d+ words and \d+ answers, where its network has",
        val.run,
        CONSOLE,
        project.folder / "other.ckpt",
        settings=project.settings,
    )
    answers = project.folder / "answer_dict.json"
    answers.write_text(json.dumps([{"yes": 0, "no": 1}, {"0": "yes", "1": "no"}]))
    before = checkpoint.read_bytes()
    project.write(answers=str(answers))
    project.refuse("run: holds a run with another '(space|vocabulary)'", project.train)
    assert checkpoint.read_bytes() == before
    val.run(CONSOLE, checkpoint, settings=project.settings)  # with the answers that it was trained with


def test_a_published_checkpoint_and_other_answers(project):
    space = {"name": "mcan", "layers": 1}
    settings = project.folder / "mcan.yml"
    settings.write_text(yaml.safe_dump({"data": project.data, **SPACE, "space": space}))
    weights = {
        "module.embedding.weight": torch.zeros(20573, 8),
        "module.img_feat_linear.weight": torch.zeros(16, 16),
        "module.proj.weight": torch.zeros(3129, 16),
    }
    torch.save({"state_dict": weights}, project.folder / "epoch13.pkl")
    project.refuse("^.*epoch13.pkl: .*20573", val.run, CONSOLE, project.folder / "epoch13.pkl", settings=settings)


@pytest.mark.parametrize(
    "question",
    ["", " ?! ", "what " * 200, "zebu?", "\N{DOG FACE}", "\N{DOG FACE} what is\ud83d\n\x00it?", "Wie heißt der Bär?"],
    ids=["empty", "no words", "200 words", "unknown", "emoji", "half an emoji", "umlaut"],
)
def test_an_odd_question_is_answered_like_any_other(project, question):
    for files in (project.files.train, project.files.val):
        edit(files.questions, "questions", lambda entries: entries[1].update(question=question))
    checkpoint = project.train()
    assert checkpoint.exists()
    assert check.run(CONSOLE, project.settings) in (0, 1)  # 1: a question without a word is worth a look


def test_settings_that_name_no_pipeline_of_spacy(project):
    project.write(word_vectors="en_core_web_none")
    project.refuse("^data.word_vectors: en_core_web_none: .*python -m spacy download en_core_web_none", project.train)
