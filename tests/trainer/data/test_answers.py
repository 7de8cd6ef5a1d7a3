"""Answer normalisation and soft targets against the reference's own figures."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.paths import GOLDEN
from tests.helpers.vqa_targets import soft_targets
from trainer.data.answers import CONTRACTIONS, normalise


def test_normalisation_equals_the_reference():
    expected = json.loads((GOLDEN / "expected_answer_normalisation.json").read_text())
    assert {answer: normalise(answer) for answer in expected} == expected


def test_soft_targets_equal_the_reference():
    expected = json.loads((GOLDEN / "expected_soft_targets.json").read_text())
    annotations = json.loads((GOLDEN / "annotations.json").read_text())["annotations"]
    index = expected["answer_to_index"]
    for annotation in annotations:
        targets = soft_targets(each["answer"] for each in annotation["answers"])
        known = {str(index[answer]): target for answer, target in targets.items() if answer in index}
        assert known == pytest.approx(expected["soft_targets"][str(annotation["question_id"])])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("x-y - z", "xy z"),  # a mark beside a space goes, wherever else it stands
        ("1,000-2,000", "10002000"),  # a number with a comma makes every mark go
        ("v1.5.", "v1.5"),
        ("." * 40, "." * 8),  # the official evaluation takes away 32
        ("IM THE ONE", "im 1"),
        ("", ""),
    ],
)
def test_quirks_of_the_official_evaluation(answer, expected):
    assert normalise(answer) == expected


def test_contractions_gain_or_lose_nothing_but_apostrophes():
    assert len(CONTRACTIONS) > 100
    for wrong, right in CONTRACTIONS.items():
        assert wrong != right and wrong.replace("'", "") == right.replace("'", "")


@given(st.text())
def test_any_text_has_a_normal_form(answer):
    words = normalise(answer).split(" ")
    assert words == [""] or all(words)
    assert not {"a", "an", "the"} & set(words)


@pytest.mark.parametrize(("count", "target"), [(1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_soft_target_of_an_answer(count, target):
    answers = ["A dog."] * count + [f"other {number}" for number in range(10 - count)]
    targets = soft_targets(answers)
    assert targets["dog"] == target
    assert "cat" not in targets
