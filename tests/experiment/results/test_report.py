"""What a search shows at its end: table and verdict, curves of the trials, ranking of the candidates."""

import dataclasses
import io
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from experiment.manager.records import Trial
from experiment.results.comparison import interval
from experiment.results.curves import draw_curves
from experiment.results.ranking import ranking
from experiment.results.report import (
    Difference,
    Evaluated,
    markdown,
    read_comparison,
    save,
    standard_error,
    table,
    verdict,
)
from model_space.errors import InputError

BASELINE = Evaluated("most frequent answer", 20.0, {"yes/no": 50.0, "number": 0.0, "other": 3.0})
FOUND = Evaluated("found architecture", 62.0, {"other": 60.0, "number": 55.12, "yes/no": 70.0}, 270_123, 97.4)
MCAN = Evaluated("MCAN", 63.0, {"yes/no": 71.0, "number": 55.0, "other": 61.0}, 281_000, 88.0)
RANDOM = Evaluated("random architecture", 50.0, {"yes/no": 70.0, "number": 45.0, "other": 40.0}, 260_000, 91.0)


def printed(renderable, width=100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_standard_error_is_that_of_the_mean_of_coin_throws():
    throws = [100.0] * 30 + [0.0] * 70
    deviation = math.sqrt(sum((throw - 30) ** 2 for throw in throws) / 100)
    assert standard_error(30, 100) == pytest.approx(deviation / math.sqrt(100))
    assert standard_error(0, 10) == 0 and standard_error(100.00000000000001, 10) == 0


def test_table_has_a_line_a_row_with_types_in_order():
    shown = printed(table([BASELINE, FOUND], 2000))
    header, baseline, found = (line for line in shown.splitlines() if any(letter.isalnum() for letter in line))
    assert header.index("overall") < header.index("yes/no") < header.index("number") < header.index("other")
    assert re.split(r"\s{2,}", baseline.strip()) == [
        *("most frequent answer", "20.0 ± 0.9", "50.0", "0.0", "3.0", "–", "–"),
    ]
    assert re.split(r"\s{2,}", found.strip()) == [
        *("found architecture", "62.0 ± 1.1", "70.0", "55.1", "60.0", "270,123", "97"),
    ]


def test_markdown_is_the_same_table_and_a_name_cannot_break_it():
    lines = markdown([BASELINE, Evaluated("a|b [red]", 10, {"count": 5.0})], 100).splitlines()
    assert lines[0] == "| accuracy, % | overall | yes/no | number | other | count | weights | seconds |"
    assert lines[1] == "| --- |" + " ---: |" * 7
    assert lines[3] == "| a\\|b [red] | 10.0 ± 3.0 | – | – | – | 5.0 | – | – |"
    assert "a|b [red]" in printed(table([Evaluated("a|b [red]", 10, {})], 100))


def test_saved_as_json_and_markdown(tmp_path):
    level = Difference(MCAN, -1.0, (-2.1, 0.1))
    save([BASELINE, MCAN, FOUND], 2000, [level], "No better.", "abc", tmp_path / "comparison")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.json", "comparison.md"]
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["questions"] == 2000 and content["verdict"] == "No better."
    error = content["rows"][2].pop("standard_error")
    assert error == pytest.approx(standard_error(62, 2000)) and Evaluated(**content["rows"][2]) == FOUND
    assert (tmp_path / "comparison.md").read_text() == markdown([BASELINE, MCAN, FOUND], 2000) + "\nNo better.\n"
    again = read_comparison(tmp_path / "comparison.json")
    assert (again.experiment, again.rows, again.verdict) == ("abc", [BASELINE, MCAN, FOUND], "No better.")
    assert again.differences["MCAN"].points == -1.0 and again.differences["MCAN"].interval == (-2.1, 0.1)


def test_a_comparison_of_an_older_version_names_no_experiment_and_another_file_is_refused(tmp_path):
    file = tmp_path / "comparison.json"
    rows = [{"name": "MCAN", "overall": 1.0, "per_answer_type": {}, "standard_error": 0.1}]
    old = {"accuracy": "official", "questions": 3, "rows": rows, "verdict": "No better."}
    file.write_text(json.dumps(old))
    assert read_comparison(file).experiment is None and not read_comparison(file).differences
    for text in ("[]", "{", json.dumps(old | {"rows": 3})):
        file.write_text(text)
        with pytest.raises(InputError, match=r"comparison\.json: not a comparison"):
            read_comparison(file)


def test_verdict_says_what_the_intervals_allow():
    above, level, below = (
        Difference(RANDOM, 12.0, (11.2, 12.9)),
        Difference(MCAN, -1.0, (-2.1, 0.1)),
        Difference(MCAN, -1.0, (-1.8, -0.2)),
    )
    said = verdict(FOUND, [above, level], 2000, 3)
    assert said == (
        "Found architecture is 12.0 above random architecture (95 % interval 11.2 to 12.9), and 1.0 below MCAN "
        "(95 % interval -2.1 to 0.1: no difference is shown). The intervals are over 2000 questions and 3 trainings of "
        "each."
    )
    assert "no difference" not in verdict(FOUND, [above, below], 2000, 3)
    assert "another training would move the figures further" in verdict(FOUND, [level], 2000, 1)


def test_the_interval_is_paired_by_question_and_grows_with_the_deviation_of_trainings():
    questions = np.random.default_rng(0).integers(2, size=(1, 2000)) * 100.0
    better = questions.copy()
    better[:, ::50] = 100.0
    low, high = interval(better, questions)
    assert 0 < low < (better - questions).mean() < high < 2  # unpaired, it would be 6 points wide
    apart = np.concatenate([questions, np.full_like(questions, 100.0)])
    low, high = interval(apart, np.repeat(questions, 2, axis=0))
    assert low < 2 and high > 48
    assert interval(questions, questions) == (0.0, 0.0)


def test_after_the_plus_minus_is_the_deviation_over_trainings_where_there_were_several():
    several = dataclasses.replace(FOUND, deviation=0.33)
    assert "62.0 ± 0.3" in printed(table([several], 2000)) and "62.0 ± 1.1" in printed(table([FOUND], 2000))


OPERATIONS = ("none", "identity", "feed_forward", "self_attention", "guided_attention")
MOVED = {
    "image_node1_input": {"0": 1.0},
    "image_node1_operation": dict(zip(OPERATIONS, (0.1, 0.2, 0.15, 0.15, 0.4))),
    "image_node2_input": {"0": 0.25, "1": 0.75},
}


def test_ranking_marks_the_winner_and_its_lead():
    lines = [line.split() for line in printed(ranking(MOVED)).splitlines()]
    assert ["image_node1_operation", "10.0", "20.0", "15.0", "15.0", "*40.0", "20.0"] in lines
    assert ["image_node2_input", "25.0", "*75.0", "50.0"] in lines
    assert ["image_node1_input", "*100.0", "–"] in lines


def test_every_choice_of_the_seed_fits_a_terminal():
    seed = {f"question_node{i}_from{j}": dict.fromkeys(OPERATIONS, 0.2) for i in range(1, 5) for j in range(i)}
    shown = printed(ranking(seed))
    assert "…" not in shown and all(label in shown for label in seed)


def trial(number, state="SUCCEEDED", epochs=3, temperature=lambda epoch: 1.0, **parameters) -> Trial:
    curve = [
        {"default": 30.0 + epoch * number, "epoch": epoch, "entropy": 1 / epoch, "temperature": temperature(epoch)}
        for epoch in range(1, epochs + 1)
    ]
    return Trial(f"id{number}", number, Path(), state, record={"parameters": parameters}, curve=curve)


def words(path: Path) -> str:
    return "\n".join(ElementTree.parse(path).getroot().itertext())


def test_curves_tell_the_trials_apart(tmp_path):
    trials = [
        trial(1, strategy="snas", seed=1, rate=0.1),
        trial(2, "FAILED", 1, strategy="darts", seed=1, rate=0.1),
        trial(3, "FAILED", 0, strategy="$\\frac$ <b>\x00", seed=2, rate=0.1),
    ]
    draw_curves(trials, tmp_path / "curves.svg")
    said = words(tmp_path / "curves.svg")
    for line in (
        "trial 1 (id1): strategy snas, seed 1",
        "trial 2 (id2): strategy darts, seed 1, failed",
        "trial 3 (id3): strategy $\\frac$ <b>?, seed 2, failed before its first epoch",
        "all: rate 0.1",
        "validation accuracy",
        "entropy",
    ):
        assert line in said
    assert "temperature" not in said
    trials.append(trial(4, temperature=lambda epoch: 5 / epoch))
    draw_curves(trials, tmp_path / "curves.svg")
    assert "temperature" in words(tmp_path / "curves.svg")


def test_curves_of_a_running_experiment_without_an_epoch(tmp_path):
    for trials in ([], [trial(1, "RUNNING", 0)]):
        draw_curves(trials, tmp_path / "curves.svg")
    assert "trial 1 (id1), running before its first epoch" in words(tmp_path / "curves.svg")


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_curves_are_the_same_bytes_twice(tmp_path, suffix):
    for name in ("one", "two"):
        draw_curves([trial(1, seed=1), trial(2, seed=2)], tmp_path / f"{name}.{suffix}")
    assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_where_curves_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"\.svg or \.png"):
        draw_curves([], tmp_path / "curves.pdf")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        draw_curves([], tmp_path / "file" / "curves.png")
