"""The worked example goes from pictures to its table, with a package of a few pictures in the place of easy-vqa."""

import json
import sys

import pytest
import yaml

from benchmarks import easy_vqa
from tests.helpers.photos import write_photos
from tests.helpers.tiny import tiny_network

SEARCH = {"batch_size": 8, "warmup": None, "samples": 4, "shortlist": 2, "tuning_steps": 1}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Settings of two kinds of features, and a package with 16 training and 8 test pictures."""
    for split, n in {"train": 16, "test": 8}.items():
        images = tmp_path / "packages/easy_vqa/data" / split / "images"
        colours = write_photos(images, n, seed=n)
        for number, path in enumerate(sorted(images.iterdir())):
            path.rename(images / f"{number}{path.suffix}")
        questions = [["What colour is it?", colour, number] for number, colour in enumerate(colours)]
        questions += [["Is it red?", "yes" if colour == "red" else "no", n] for n, colour in enumerate(colours)]
        (images.parent / "questions.json").write_text(json.dumps(questions))
    features = {}
    for kind, side in {"grid": 32, "patches": 64}.items():
        train, test = ({"features": f"data/easy_vqa/{kind}/{split}"} for split in ("train", "test"))
        splits = {"train": train, "val": train, "test": test}
        named = {name: split | {"questions": f"data/easy_vqa/{name}.csv"} for name, split in splits.items()}
        pictures = {"name": "patches", "side": side, "patch": 16}
        content = {
            "data": {**named, "accuracy": "agreement", "min_answer_count": 1, "pictures": pictures},
            "space": {"name": "encoder_decoder", "encoder_blocks": 1, "decoder_blocks": 2, "relation_size": 4},
            "network": tiny_network().model_dump(),
            "search": {"strategy": "progressive_shrinking", **SEARCH},
            "train": {"batch_size": 8, "warmup": None},
        }
        features[kind] = tmp_path / f"{kind}.yml"
        features[kind].write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(easy_vqa, "PACKAGES", tmp_path / "packages")
    monkeypatch.setattr(easy_vqa, "FEATURES", features)
    monkeypatch.setattr(easy_vqa, "HELD_OUT", 4)
    return tmp_path


def test_the_worked_example_makes_its_table_and_goes_on_where_it_was(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["easy_vqa", "--small", "--folder", "runs"])
    easy_vqa.main()
    said = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in said.splitlines() if line.startswith("| ")][1:]
    assert rows == [["grid", "MCAN"], ["grid", "found"], ["patches", "MCAN"], ["patches", "found"]]
    assert said.count("points above MCAN (95 % interval") == 2
    val = (folder / "data/easy_vqa/val.csv").read_text().splitlines()
    assert len(val) == 1 + 2 * 4 and val[1].startswith("12,")

    monkeypatch.setattr(easy_vqa, "search", lambda *given: pytest.fail("searched once more"))
    monkeypatch.setattr("trainer.train.train", lambda *given: pytest.fail("trained once more"))
    easy_vqa.main()
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")] == [
        line for line in said.splitlines() if line.startswith("| ")
    ]


def test_without_the_package_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(easy_vqa, "PACKAGES", folder / "none")
    with pytest.raises(SystemExit, match=r"the package easy-vqa is not installed: make .venv/installed-dev"):
        easy_vqa.write_data()
