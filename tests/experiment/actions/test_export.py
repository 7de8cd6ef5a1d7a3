"""The best architecture of an experiment's records."""

import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from experiment.actions import export
from experiment.actions.export import best
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.spaces.stacked import StackedSettings
from tests.helpers.nni_records import Records
from tests.helpers.tiny import tiny_space

SPACE = tiny_space(StackedSettings(edges="one", cells=1, nodes=2))


def architecture(score: float, **changes) -> str:
    """The JSON of an architecture; ``changes`` are of its keys."""
    content = json.loads(
        Architecture(space=SPACE, choices=SPACE.random_choices(seed=int(score)), score=score).to_json()
    )
    return json.dumps(content | changes)


def report(written: Records, trial: str, score: float, text: str | None = None) -> None:
    written.event(trial, "RUNNING", {"seed": 0})
    written.metric(trial, {"default": score, "architecture": text or architecture(score), "parameters": "{}"})


def test_the_highest_score(tmp_path: Path):
    written = Records(tmp_path / "abc")
    for trial, score in (("T1", 40.0), ("T2", 60.0), ("T3", 50.0)):
        report(written, trial, score)
    written.event("T4", "RUNNING", {"seed": 0})
    written.metric("T4", {"default": 99.0}, sequence=0)  # not yet at its end
    found = best(tmp_path)
    assert (found.score, found.choices) == (60.0, SPACE.random_choices(seed=60))
    assert found.network() is not None


def test_the_latest_experiment_or_another(tmp_path: Path):
    report(Records(tmp_path / "old", started=1), "T1", 40.0)
    report(Records(tmp_path / "new", started=2), "T1", 30.0)
    assert best(tmp_path).score == 30.0
    assert best(tmp_path, "old").score == 40.0
    with pytest.raises(InputError, match=r"no experiment 'older'; there are .*: old, new"):
        best(tmp_path, "older")


def test_no_finished_trial(tmp_path: Path):
    written = Records(tmp_path / "abc")
    written.event("T1", "RUNNING", {"seed": 0})
    written.metric("T1", {"default": 1.0}, sequence=0)
    with pytest.raises(InputError, match="experiment abc: no trial has finished yet"):
        best(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (architecture(1, format=3), "format 3, but this version reads the formats 1 and 2"),
        (architecture(1)[:50], "the JSON ends or breaks here"),
        (architecture(1, choices={}), "is missing"),
        (architecture(1, space={"name": "moon"}), "space"),
    ],
)
def test_another_architecture(tmp_path: Path, text: str, message: str):
    report(Records(tmp_path / "abc"), "T1", 50.0, text)
    with pytest.raises(InputError, match=f"experiment abc, trial T1.*{message}") as error:
        best(tmp_path)
    assert "\n" not in str(error.value)


def test_another_experiment(tmp_path: Path):
    written = Records(tmp_path / "abc")
    written.event("T1", "RUNNING", {"lr": 0.1})
    written.metric("T1", 0.93)
    with pytest.raises(InputError, match="trial T1: reported no architecture; it is not a search of this package"):
        best(tmp_path)


def test_what_is_written_beside_the_architecture(tmp_path: Path):
    """The card tells of the search: the score with its interval, the trials, and where the architecture is from."""
    written = Records(tmp_path / "runs" / "abc")
    provenance = {"strategy": "snas", "data": {"name": "digits", "train": 900, "val": 400}}
    for trial, score, state in (("T1", 40.0, "SUCCEEDED"), ("T2", 60.0, "SUCCEEDED")):
        report(written, trial, score, architecture(score, provenance=provenance))
        written.event(trial, state)
    written.event("T3", "RUNNING", {"seed": 0})
    config = tmp_path / "config.yml"
    config.write_text("trialCommand: python -m experiment.manager.trial x.yml\nexperimentWorkingDirectory: runs\n")
    console = Console(record=True, soft_wrap=True, width=400)
    export.run(console, tmp_path / "my best.json", config=config)
    assert f"its search: {tmp_path / 'my best.md'}" in console.export_text()
    assert Architecture.load(tmp_path / "my best.json").score == 60.0 and (tmp_path / "my best.svg").exists()
    _, head, text = (tmp_path / "my best.md").read_text().split("---\n", 2)
    above = yaml.safe_load(head)
    assert above["datasets"] == ["digits"] and "neural-architecture-search" in above["tags"]
    assert "model-index" not in above  # the hub would take it for the accuracy of weights
    assert "| validation | 60.0 | 55.1 to 64.7 | 400 |" in text
    assert "![The architecture](my%20best.svg)" in text and "strategy: snas" in text
    assert "| succeeded | 40.0 |" in text and "| succeeded | 60.0 |" in text and "| running | – |" in text
    for name in ("found.md", "found.svg"):
        with pytest.raises(InputError, match="an architecture is JSON"):
            export.run(console, tmp_path / name, config=config)
    (tmp_path / "mine.md").write_text("# My own words\n")
    with pytest.raises(InputError, match=r"mine.md: is no card of a search"):
        export.run(console, tmp_path / "mine.json", config=config)
    assert (tmp_path / "mine.md").read_text() == "# My own words\n" and not (tmp_path / "mine.json").exists()
    export.run(console, tmp_path / "my best.json", config=config)  # its own card is written anew
