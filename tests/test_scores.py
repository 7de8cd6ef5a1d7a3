"""Scores of architectures: each is there for each architecture, and τ orders as it should."""

import sys

import pytest
import yaml

from benchmarks import scores, study
from tests.helpers.trained import settings_file


def test_tau_is_one_for_the_same_order_and_minus_one_for_the_reverse():
    assert scores.tau([1, 2, 5, 9], [50.0, 60.0, 61.0, 90.0]) == pytest.approx(1)
    assert scores.tau([1, 2, 5, 9], [90.0, 61.0, 60.0, 50.0]) == pytest.approx(-1)
    found = {"good": [1.0, 2.0, 3.0, 4.0], "bad": [1.0, 2.0, 4.0, 3.0]}
    columns = [list(column.cells) for column in scores.table(found, [50.0, 60.0, 70.0, 80.0]).columns]
    assert columns == [["good", "bad"], ["1.00", "0.67"], ["1.00", "-1.00"]]


def test_the_random_architectures_of_a_study_are_scored(tiny_data_settings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "RANDOM", 4)
    file = settings_file(tmp_path / "chain.yml", tiny_data_settings, name="encoder_decoder", encoder_blocks=1)
    content = yaml.safe_load(file.read_text())
    content["space"]["decoder_blocks"] = 2
    loop = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 16}
    search = loop | {"strategy": "progressive_shrinking", "samples": 4, "shortlist": 2, "tuning_steps": 3}
    file.write_text(yaml.safe_dump(content | {"train": loop, "search": search}))
    study._begin({"chain": study.read_settings(file)})
    study.write(tmp_path / "runs.csv", [study.run(study.Job("chain", "random", i)) for i in range(4)])
    arguments = ["scores", "--settings", str(file), "--file", str(tmp_path / "runs.csv")]
    monkeypatch.setattr(sys, "argv", arguments)
    scores.main()
    printed = capsys.readouterr().out
    for name in ("number of weights", "in the supernet, 24 questions", "after 1 steps", "after 3 steps", "validation"):
        assert name in printed
    assert "τ, 4 architectures" in printed and "τ, the better 2" in printed
