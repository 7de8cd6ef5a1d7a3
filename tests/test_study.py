"""The study: what it reckons is right, and it is made, resumed and summed up."""

import dataclasses
import itertools
import sys

import numpy as np
import pytest
import yaml

from benchmarks import spaces, study
from benchmarks.study import (
    FILE,
    OTHERS,
    RANDOM,
    SEEDS,
    SPACES,
    Job,
    Run,
    Summary,
    best_of,
    difference,
    evenly,
    expected,
    halved,
)
from experiment.settings import read_settings
from model_space.sizes import DataSizes
from tests.helpers.trained import settings_file


def run_of(method: str, seed: int, right: np.ndarray, val: float = 50.0, cost: float = 0.0) -> Run:
    return Run(Job("s", method, seed), {}, cost, 0.0, 10.0, (val / 2, val), float(right.mean()), "AVX2", right)


def test_random_search_is_the_mean_over_all_draws():
    val = np.array([3.0, 1.0, 4.0, 1.0, 5.0])
    for n in (1, 2, 3, 5):
        winners = [max(draw, key=lambda i: (val[i], -i)) for draw in itertools.combinations(range(5), n)]
        assert best_of(val, n) == pytest.approx(np.bincount(winners, minlength=5) / len(winners))
    assert best_of(val, 9) == pytest.approx([0, 0, 0, 0, 1])


def test_successive_halving_stops_the_worse_ones_early():
    val = np.linspace([30.0] * 8, [90.0] * 8, 9)  # (trainings, epochs): the order is the same after every epoch
    every = halved(val, 9, np.random.default_rng(0), draws=50)
    assert every == pytest.approx([0] * 8 + [1])
    val[8, 0:2] = 0  # the best one begins badly
    assert halved(val, 9, np.random.default_rng(0), draws=50) == pytest.approx([0] * 7 + [1, 0])
    assert halved(val, 1, np.random.default_rng(0), draws=4000) == pytest.approx([1 / 9] * 9, abs=0.02)
    # Nine begin with a quarter of a training, three go on for a quarter, and one for the half that is left.
    assert study._halving_cost(9) == pytest.approx(9 / 4 + 3 / 4 + 1 / 2)
    assert study.halving_size(3.5) == 9 and study.halving_size(3.4) < 9 and study.halving_size(1) == 1


def test_the_interval_is_over_runs_and_questions():
    generator = np.random.default_rng(1)
    questions = generator.integers(0, 2, 2000) * 100
    ours = (evenly_wrong := [run_of("snas", i, questions.astype(np.uint8)) for i in range(4)], evenly)
    assert difference(ours, (evenly_wrong, evenly)) == pytest.approx(
        (0, 0, 0), abs=1e-4
    )  # the same, question by question
    better = np.maximum(questions, 100 * (generator.random(2000) < 0.1)).astype(np.uint8)
    points, low, high = difference(([run_of("snas", i, better) for i in range(4)], evenly), ours)
    assert points == pytest.approx(better.mean() - questions.mean()) and 3 < low < points < high < 7
    # Runs that differ make the interval wider than questions do.
    spread = [
        run_of("snas", i, np.where(generator.random(2000) < share, 100, 0).astype(np.uint8))
        for i, share in enumerate((0.3, 0.5, 0.7, 0.9))
    ]
    points, low, high = difference((spread, evenly), ours)
    assert high - low > 20 and low < points < high
    assert expected((spread, evenly))[1] == pytest.approx(np.std([each.test for each in spread], ddof=1))


def test_random_search_counts_its_runs_by_validation():
    runs = [run_of("random", i, np.full(10, test, np.uint8), val=test) for i, test in enumerate((40, 60, 80))]
    assert expected((runs, study.random_search(1)))[0] == pytest.approx(60)
    assert expected((runs, study.random_search(2)))[0] == pytest.approx((60 + 80 + 80) / 3)
    assert expected((runs, study.random_search(3))) == pytest.approx((80, 0))
    space = Summary([*runs, run_of("snas", 0, np.full(10, 90, np.uint8), cost=25.0)])
    assert space.cost("snas") == 2.5 and list(space.by_method) == ["snas"]
    faster = [dataclasses.replace(runs[0], processor="AVX512", training_seconds=5.0)]
    both = [run_of("snas", 0, np.full(10, 90, np.uint8), cost=25.0)]
    both.append(dataclasses.replace(both[0], job=Job("s", "snas", 1), processor="AVX512", search_seconds=12.5))
    assert Summary([*runs, *faster, *both]).cost("snas") == 2.5


def test_the_kept_runs_are_of_their_spaces():
    data = DataSizes(feature_size=18, vocabulary_size=20, answers=6)
    settings = {path.stem: read_settings(path) for path in SPACES}
    kept = study.read(FILE)
    assert kept and len({each.job for each in kept}) == len(kept)
    assert {each.job for each in kept} <= set(study.jobs(settings, small=False))
    for each in kept:
        if each.job.method != "mcan":
            settings[each.job.space].space_for(data).check(each.choices, str(FILE))
        assert each.right.mean() == pytest.approx(each.test, abs=0.01)
        assert len(each.val) == settings[each.job.space].train.epochs and each.training_seconds > 0
        assert (each.search_seconds > 0) == (each.job.method not in ("random", "mcan"))


def test_the_best_tenth_is_chosen_by_validation():
    runs = [run_of("random", i, np.full(10, i, np.uint8), val=(7 * i) % 20) for i in range(20)]
    assert expected((runs, spaces.best_tenth)) == pytest.approx(((17 + 14) / 2, 1.5))  # 119 % 20 = 19, 98 % 20 = 18
    assert expected((runs[:3], spaces.best_tenth))[0] == 2


def test_the_jobs_of_the_other_spaces_come_by_turns():
    made = spaces.jobs(["a", "b"])
    assert len(set(made)) == len(made) == 2 * (len(SEEDS) + RANDOM)
    assert [job.space for job in made[:4]] == ["a", "b", "a", "b"]


def test_the_jobs_of_a_study():
    settings = {path.stem: read_settings(path) for path in SPACES}
    every = study.jobs(settings, small=False)
    others = len(study.STRATEGIES) - 1
    assert len(every) == len(set(every)) == len(SPACES) * (others * len(OTHERS) + 2 * len(SEEDS) + RANDOM)
    few = study.jobs(settings, small=True)
    assert len(few) == 10 and set(few) <= set(every) and {job.space for job in few} == {"digits"}


@pytest.fixture
def tiny(tiny_data_settings, tmp_path):
    files = []
    for name, space in (
        ("chain", {"name": "encoder_decoder", "encoder_blocks": 1, "decoder_blocks": 1}),
        ("cells", {"name": "stacked", "edges": "one", "cells": 1, "nodes": 1}),
        ("other", {"name": "stacked", "edges": "all", "cells": 1, "nodes": 1}),
    ):
        file = settings_file(tmp_path / f"{name}.yml", tiny_data_settings, **space)
        loop = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 16}
        search = loop | {"strategy": "progressive_shrinking", "samples": 4, "shortlist": 2, "tuning_steps": 2}
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"train": loop, "search": search}))
        files.append(str(file))
    return files


def test_a_study_is_made_goes_on_where_it_was_and_is_summed_up(tiny, tmp_path, monkeypatch, capsys):
    *searched, other = tiny
    monkeypatch.setattr(study, "RANDOM", 4)
    monkeypatch.setattr(study, "SEEDS", range(2))
    monkeypatch.setattr(study, "OTHERS", range(1))
    file = tmp_path / "study.csv"

    def made(*arguments):
        figure = str(tmp_path / "study.svg")
        monkeypatch.setattr(
            sys, "argv", ["study", "--settings", *searched, "--file", str(file), "--figure", figure, *arguments]
        )
        study.main()
        return study.read(file)

    part = made("--limit", "4", "--processes", "1")
    whole = made("--processes", "2")
    assert len(part) == 4 and len(whole) == 2 * (len(study.STRATEGIES) - 1 + 2 * 2 + 4)
    assert all(each in whole for each in part)
    assert all(np.array_equal(each.right, whole[whole.index(each)].right) for each in part)
    printed = capsys.readouterr().out
    for words in ("chain: accuracy", "cells: accuracy", "progressive_shrinking", "one random draw", "MCAN"):
        assert words in printed
    assert "progressive_shrinking" in (tmp_path / "study.svg").read_text()
    before = file.read_bytes()
    made()
    assert file.read_bytes() == before

    # What the spaces hold, of these random architectures and of others that are trained now.
    kept, drawn = tmp_path / "spaces.csv", tmp_path / "spaces.svg"
    options = ["--study", str(file), "--file", str(kept), "--figure", str(drawn)]
    for limit in ("3", "100"):
        monkeypatch.setattr(sys, "argv", ["spaces", "--settings", str(other), *options, "--limit", limit])
        spaces.main()
    assert [len([each for each in study.read(kept) if each.job.method == of]) for of in ("mcan", "random")] == [2, 4]
    rows = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines() if "±" in line]
    assert [[cell.strip() for cell in row] for row in rows[-3:]] == [["cells", "4"], ["chain", "4"], ["other", "4"]]
    assert "MCAN" in drawn.read_text()

    # The same job once more gives the same.
    settings = {name: read_settings(path) for name, path in zip(("chain", "cells"), searched, strict=True)}
    study._begin(settings)
    for job in (Job("cells", "progressive_shrinking", 0), Job("chain", "random", 1)):
        one, again = study.run(job), study.run(job)
        assert (one.choices, one.score, one.val, one.test) == (again.choices, again.score, again.val, again.test)
        assert np.array_equal(one.right, again.right)
