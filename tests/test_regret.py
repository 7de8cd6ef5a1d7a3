"""Regret curves: a search on the table takes the best by validation, and the tables say what it cost and missed."""

import random
import re
import sys

import numpy as np
import pytest

from benchmarks import regret, study, tabular
from benchmarks.tabular import Table, Training, every_architecture
from experiment.settings import read_settings
from model_space.sizes import DataSizes
from tests.helpers.paths import DIGITS, ROOT
from trainer.strategies import STRATEGIES

SPACE = read_settings(DIGITS).space_for(DataSizes(feature_size=18, vocabulary_size=20, answers=6))
EPOCHS = 14


def worth(choices) -> float:
    """An accuracy to which each choice adds: the more relational self-attention the better."""
    return 60 + 10 * sum(value == "relational_self_attention" for value in choices.values())


@pytest.fixture(scope="module")
def table() -> Table:
    noise = random.Random(0)
    trainings = []
    for seed, choices in enumerate(every_architecture(SPACE)):
        test = worth(choices) + noise.uniform(-1, 1)
        trainings.append(
            Training(choices, seed, tuple(test * epoch / EPOCHS for epoch in range(1, EPOCHS + 1)), test, 9)
        )
    return Table(SPACE, trainings)


def test_a_search_keeps_the_best_by_validation(table):
    found = regret.searched(table, SPACE.candidates(), regret.TUNERS["random search"](0), 40)
    assert len(found) == 40 and found == sorted(found)  # here the best by validation is the best by test
    asked: list = []

    class Listed:
        def update_search_space(self, space): ...
        def generate_parameters(self, number):
            return table.trainings[number].choices

        def receive_trial_result(self, number, choices, score):
            asked.append((choices, score))

    found = regret.searched(table, SPACE.candidates(), Listed(), 5)
    assert asked == [(each.choices, each.val[-1]) for each in table.trainings[:5]]
    assert found == [max(each.test for each in table.trainings[: n + 1]) for n in range(5)]


def test_those_that_learn_from_what_they_have_seen_find_more(table):
    found = regret.curves(table, searches=10)
    assert all(accuracies.shape == (10, max(regret.BUDGETS)) for accuracies in found.values())
    # Before 20 trainings TPE draws at random. After 64, a quarter of the space, random search has found as good ones.
    after_48 = {name: accuracies[:, 47].mean() for name, accuracies in found.items()}
    assert after_48["TPE"] > after_48["random search"] + 1
    assert after_48["regularized evolution"] > after_48["random search"] + 1


def test_the_command_sums_up_a_whole_table_and_refuses_a_part(table, tmp_path, monkeypatch, capsys):
    runs = []
    for number in range(6):
        method = "random" if number < 2 else "snas"
        training = table.trainings[number]
        seconds = 30.0 if method == "snas" else 0.0
        right = np.full(8, 100, np.uint8)
        job = study.Job("digits", method, number)
        runs.append(study.Run(job, training.choices, seconds, 0.0, 10.0, training.val, training.test, "AVX2", right))
    study.write(tmp_path / "study.csv", runs)
    monkeypatch.setattr(regret, "SEARCHES", 3)
    monkeypatch.setattr(
        regret.Table, "load", classmethod(lambda cls, settings, file: cls(SPACE, list(tabular._read(file))))
    )
    figure = tmp_path / "regret.svg"
    files = ["--file", str(tmp_path / "table.csv"), "--study", str(tmp_path / "study.csv"), "--figure", str(figure)]
    monkeypatch.setattr(sys, "argv", ["regret", *files])

    tabular._write(tmp_path / "table.csv", table.trainings[:200])
    with pytest.raises(SystemExit):
        regret.main()
    assert "56 of 256 architectures are missing" in capsys.readouterr().err

    tabular._write(tmp_path / "table.csv", table.trainings)
    regret.main()
    printed = capsys.readouterr().out
    assert "regularized evolution" in printed and "successive halving" in printed
    (row,) = [line for line in printed.splitlines() if line.startswith("| snas")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    best = max(each.test for each in table.trainings)
    expected = best - sum(each.test for each in table.trainings[2:6]) / 4
    assert cells[1:3] == ["4", "3.0"] and cells[3].startswith(f"{expected:.1f} ±")
    assert "snas" in figure.read_text() and "TPE" in figure.read_text()


def test_the_document_has_what_is_printed_of_what_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["regret", "--figure", str(tmp_path / "regret.svg")])
    regret.main()
    printed = capsys.readouterr().out
    document = (ROOT / "docs" / "data.md").read_text()
    rows = [re.sub(" +", " ", line).strip() for line in printed.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 4 + len(STRATEGIES)
    for row in rows:
        assert row in document
    (best,) = re.findall(r"best of the table: (\S+ %)", printed)
    assert f"The best of the table has {best}" in " ".join(document.split())
