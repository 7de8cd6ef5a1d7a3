"""The official accuracy against the reference's own figures, and the baselines."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_space.errors import InputError
from tests.helpers.paths import GOLDEN
from trainer.evaluation.vqa_accuracy import Evaluator, most_frequent_answer, most_frequent_answer_of_form


def annotation(question_id, answers, form="is the", answer_type="yes/no"):
    return {
        "question_id": question_id,
        "question_type": form,
        "answer_type": answer_type,
        "multiple_choice_answer": max(answers, key=answers.count),
        "answers": [{"answer": answer, "answer_id": number} for number, answer in enumerate(answers, 1)],
    }


@pytest.fixture(scope="module")
def golden():
    annotations = json.loads((GOLDEN / "annotations.json").read_text())["annotations"]
    results = json.loads((GOLDEN / "results.json").read_text())
    return annotations, {result["question_id"]: result["answer"] for result in results}


@pytest.mark.parametrize(("variant", "name"), [("official", "official"), ("mcan", "mcan_vqa")])
def test_equals_the_reference(golden, variant, name):
    annotations, answers = golden
    expected = json.loads((GOLDEN / "expected_accuracy.json").read_text())[name]
    accuracy = Evaluator(annotations, variant)(answers)
    per_question = {int(question_id): value for question_id, value in expected["per_question"].items()}
    close = {"rel": 0, "abs": 1e-6}
    assert accuracy.per_question == pytest.approx(per_question, **close)
    assert accuracy.overall == pytest.approx(expected["accuracy"]["overall"], **close)
    assert accuracy.per_answer_type == pytest.approx(expected["accuracy"]["perAnswerType"], **close)
    assert accuracy.per_question_type == pytest.approx(expected["accuracy"]["perQuestionType"], **close)


@pytest.mark.parametrize(("count", "percent"), [(0, 0), (1, 30), (2, 60), (3, 90), (4, 100), (9, 100)])
def test_accuracy_of_an_answer_that_some_gave(count, percent):
    answers = ["red"] * count + [f"other {number}" for number in range(10 - count)]
    assert Evaluator([annotation(7, answers)])({7: "The Red!"}).overall == pytest.approx(percent)


def test_where_all_agree_letters_count():
    evaluate = Evaluator([annotation(7, ["Yes."] * 10)])
    assert evaluate({7: "Yes.\n"}).overall == 100
    assert evaluate({7: "yes"}).overall == 0


def test_evaluating_changes_nothing(golden):
    annotations, answers = golden
    before = json.dumps(annotations)
    evaluate = Evaluator(annotations)
    assert evaluate(answers) == evaluate(answers)
    assert json.dumps(annotations) == before


@given(st.lists(st.sampled_from(["yes", "Yes", "no", "the no", "2", "two ", "-"]), min_size=10, max_size=10))
def test_equals_the_definition(answers):
    def accuracy_by_definition(answer, given):
        if len(set(given)) > 1:
            given = [
                {"yes": "yes", "no": "no", "2": "2", "two": "2"}.get(each.split()[-1].lower(), "") for each in given
            ]
        nine = [given[:left] + given[left + 1 :] for left in range(10)]
        return 100 * sum(min(1, others.count(answer) / 3) for others in nine) / 10

    evaluate = Evaluator([annotation(1, answers)])
    trimmed = [answer.strip() for answer in answers]
    for answer in ("yes", "no", "2", "blue"):
        assert evaluate({1: answer}).overall == pytest.approx(accuracy_by_definition(answer, trimmed))


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({1: "a"}, "2 of the annotated questions have no answer; question ids: 2, 3$"),
        (
            {1: "a", 2: "a", 3: "a", 9: "a"},
            "1 of the answers belong to no annotated question; question ids: 9$",
        ),
        ({1: "a", 2: None, 3: "a"}, "1 of the answers are no text; question ids: 2$"),
        (
            {"1": "a", "2": "a", "3": "a"},
            "3 of the annotated questions have no answer; question ids: 1, 2, 3$",
        ),
    ],
)
def test_every_question_needs_one_answer(answers, message):
    evaluate = Evaluator([annotation(question_id, ["yes"] * 10) for question_id in (1, 2, 3)])
    with pytest.raises(InputError, match=message):
        evaluate(answers)


def test_nothing_to_evaluate_on():
    with pytest.raises(InputError, match="no annotated question"):
        Evaluator([])({})


def test_baselines():
    training = [
        annotation(1, ["yes"] * 10),
        annotation(2, ["Yes"] * 10),
        annotation(3, ["4"] * 10, "how many"),
    ]
    training += [annotation(4, ["2"] * 10, "how many")]
    asked = [
        annotation(5, ["no"] * 10),
        annotation(6, ["2"] * 10, "how many"),
        annotation(7, ["x"] * 10, "why"),
    ]
    assert most_frequent_answer(training, asked) == {5: "yes", 6: "yes", 7: "yes"}
    assert most_frequent_answer_of_form(training, asked) == {5: "yes", 6: "2", 7: "yes"}
    assert most_frequent_answer_of_form(training[::-1], asked)[6] == "2"


def test_all_of_vqa_takes_seconds(golden):
    """214,354 questions are the validation split of VQA-v2."""
    annotations, answers = golden
    many = [{**annotations[place % 400], "question_id": place} for place in range(20_000)]
    given_answers = {place: answers[1000 + place % 400] for place in range(20_000)}
    start = time.perf_counter()
    Evaluator(many)(given_answers)
    assert time.perf_counter() - start < 1.5  # 0.3 s on one idle core
