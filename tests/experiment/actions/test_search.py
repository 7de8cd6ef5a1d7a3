"""``python launch.py`` on tiny data, through the real manager: once whole, and once more."""

import io
import json
import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from experiment.actions import search
from experiment.actions.search import cost
from experiment.results import comparison
from experiment.results.comparison import Training, best_random, rivals
from experiment.settings import read_settings
from model_space.architecture import Architecture
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tiny_network, tiny_space
from trainer.evaluation.vqa_accuracy import Accuracy

NOTHING = Accuracy(0.0, {}, {}, {})


@pytest.fixture
def config(tiny_data_settings, tmp_path) -> Path:
    """Three short searches on the tiny data."""
    settings = {
        "data": tiny_data_settings.model_dump(mode="json"),
        "space": {"name": "stacked", "edges": "one", "cells": 1, "nodes": 2},
        "network": tiny_network().model_dump(),
        "search": {"epochs": 2, "batch_size": 16},
        "train": {"epochs": 2, "batch_size": 16},
        "compare": {"trainings": 2, "random": 2},
    }
    (tmp_path / "settings.yml").write_text(yaml.safe_dump(settings))
    content = yaml.safe_load((ROOT / "config.yml").read_text())
    content |= {
        "searchSpace": {"seed": {"_type": "choice", "_value": [0, 1, 2]}},
        "trialCommand": f"OMP_NUM_THREADS=1 python -m experiment.manager.trial {tmp_path / 'settings.yml'}",
        "trialCodeDirectory": str(ROOT),
        "tuner": {"codeDirectory": str(ROOT), "className": "experiment.manager.grid.Grid"},
        "experimentWorkingDirectory": "runs",
        "maxTrialNumber": 3,
    }
    file = tmp_path / "config.yml"
    file.write_text(yaml.safe_dump(content))
    return file


def launch(config: Path, *arguments) -> str:
    environment = os.environ | {"HOME": str(config.parent)}
    command = [sys.executable, str(ROOT / "launch.py"), "--config", str(config), *map(str, arguments)]
    done = subprocess.run(command, cwd=config.parent, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_whole_search_and_once_more(config):
    folder = config.parent
    said = launch(config)
    assert "http://127.0.0.1:" in said
    assert all(f"trial {number}: seed {number}" in said for number in range(3))
    for row in ("most frequent answer", "most frequent of form", "MCAN", "random", "found"):
        assert row in said
    architecture = Architecture.load(folder / "architecture.json")
    assert {"experiment", "trial", "strategy", "seed", "settings", "versions", "date"} <= architecture.provenance.keys()
    for file in ("architecture.svg", "results/curves.svg", "results/comparison.md"):
        assert (folder / file).stat().st_size > 0 and file in said
    comparison = json.loads((folder / "results/comparison.json").read_text())
    assert len(comparison["rows"]) == 5
    trained = [row for row in comparison["rows"] if row["parameters"]]
    assert len(trained) == 3 and all(row["deviation"] is not None for row in trained)
    costs = re.findall(r"^cost of (.*): (\d+) s, (\d+) s of the processor, in (\d) (.*)$", said, re.M)
    named = [(of, number, what) for of, _, _, number, what in costs]
    assert named == [("random search", "2", "trainings"), ("the search", "3", "trials")]
    assert said.splitlines()[-1] == "report: results/report.html"
    page = (folder / "results/report.html").read_text()
    assert comparison["experiment"] == architecture.provenance["experiment"] and escape(comparison["verdict"]) in page
    results = {path.resolve() for path in (folder / "runs").glob("*/comparison/*/result.json")}
    assert len(results) == 7  # two of each network, and one of the random architecture that was not the best
    assert all(json.loads(path.read_text())["cpu_seconds"] > 0 for path in results)

    again = launch(config)
    assert "has finished already" in again
    assert json.loads((folder / "results/comparison.json").read_text()) == comparison
    assert Architecture.load(folder / "architecture.json") == architecture

    (folder / "architecture.json").unlink()
    launch(config, "--export", "best.json", "--experiment", architecture.provenance["experiment"])
    assert Architecture.load(folder / "best.json") == architecture


def test_a_page_that_cannot_be_written_does_not_fail_the_search(tmp_path, monkeypatch):
    def fail(*arguments):
        raise ValueError("no [bold]such[/bold] thing")

    monkeypatch.setattr(search.page, "write", fail)
    console = Console(record=True, file=io.StringIO(), width=200)
    search.write_page(console, tmp_path, tmp_path / "config.yml")
    said = "the report could not be written (python launch.py --report): ValueError: no [bold]such[/bold] thing\n"
    assert console.export_text() == said


def test_networks_are_compared_by_the_accuracy_that_the_settings_name(config, tmp_path, monkeypatch):
    settings = read_settings(config.with_name("settings.yml"))
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"accuracy": "mcan"})})
    variants = []
    monkeypatch.setattr(comparison, "load_trained", lambda checkpoint: (None, None, None))
    monkeypatch.setattr(comparison, "load_split", lambda *arguments: None)
    monkeypatch.setattr(comparison, "train", lambda *arguments: None)
    monkeypatch.setattr(comparison, "read_curve", lambda folder: [{"accuracy": 0.0}])
    monkeypatch.setattr(comparison, "evaluate", lambda network, split, variant: variants.append(variant) or NOTHING)
    comparison._begin(1, settings)
    comparison._train(Architecture(space=tiny_space(MCANSettings(layers=1)), choices={}), 0, tmp_path)
    assert variants == ["mcan"]


def test_rivals_are_mcan_of_similar_size_and_different_random_architectures():
    space = tiny_space(StackedSettings(edges="one", cells=1, nodes=3), hidden=64)
    found = Architecture(space=space, choices=space.random_choices(3))
    networks = rivals(found, seed=0, random=5)
    assert list(networks) == ["found", "mcan", *(f"random {i}" for i in range(1, 6))]
    assert networks["found"] == found and networks["mcan"].space.backbone.name == "mcan"
    assert networks["mcan"].parameters() == pytest.approx(found.parameters(), rel=0.35)
    sampled = [networks[f"random {i}"] for i in range(1, 6)]
    assert all(each.space == space for each in sampled)
    assert len({each.to_json() for each in sampled}) == 5
    assert rivals(found, seed=0, random=5) == networks != rivals(found, seed=1, random=5)


def test_random_search_takes_the_best_on_the_validation_split():
    results = {
        Training("random 1", 0): {"val": 50.0, "overall": 60.0},
        Training("random 2", 0): {"val": 55.0, "overall": 52.0},
        Training("mcan", 0): {"val": 90.0, "overall": 90.0},
    }
    assert best_random(results) == "random 2"


def test_costs_in_words():
    trials = [{"seconds": 20.4, "cpu_seconds": 9.6}, {"seconds": 1.2, "cpu_seconds": 0.8}, {"seconds": 5.0}]
    assert cost(trials) == "22 s, 10 s of the processor, in 2"  # the third is of an older version
