import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_space.errors import InputError
from trainer.data.vocabulary import Vocabulary, tokenise

GOLDEN = Path(os.environ.get("GOLDEN", Path(__file__).parent / "golden"))

QUESTIONS = [{"question": "Is it red?"}, {"question": "Is it a bus/truck?"}]


def annotations_of(*answers):
    return [{"multiple_choice_answer": answer} for answer in answers]


def test_indices_equal_the_reference():
    expected = json.loads((GOLDEN / "expected_question_indices.json").read_text())
    index, longest = expected["token_to_index"], expected["max_token"]
    vocabulary = Vocabulary(tuple(sorted(index, key=index.get)), ("yes",))
    for question, indices in expected["indices"].items():
        encoded = vocabulary.encode(question, longest)
        assert encoded + [0] * (longest - len(encoded)) == indices


def test_words_are_in_the_order_met():
    vocabulary = Vocabulary.build(QUESTIONS, annotations_of("yes"), min_answer_count=1)
    assert vocabulary.words == ("PAD", "UNK", "is", "it", "red", "a", "bus", "truck")
    assert vocabulary.encode("Is the truck red", 3) == [2, 1, 7]


def test_answers_are_ordered_by_count_then_alphabet_and_counted_normalised():
    annotations = annotations_of("no", "Yes.", "b", "yes", "the two", "2", "c", "a dog")
    assert Vocabulary.build(QUESTIONS, annotations, 2).answers == ("2", "yes")
    assert Vocabulary.build(QUESTIONS, annotations[::-1], 1).answers == ("2", "yes", "b", "c", "dog", "no")


@pytest.mark.parametrize(("annotations", "most"), [(annotations_of("no", "yes", "no"), "'no', given 2"), ([], "none")])
def test_no_answer_is_frequent_enough(annotations, most):
    with pytest.raises(InputError, match=f"^min_answer_count: 9 leaves no training answer.*{most}"):
        Vocabulary.build(QUESTIONS, annotations, 9)


def test_goes_through_a_plain_dict():
    vocabulary = Vocabulary.build(QUESTIONS, annotations_of("yes"), 1)
    state = json.loads(json.dumps(vocabulary.to_dict()))
    assert Vocabulary.from_dict(state, "here") == vocabulary


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "words is missing"),
        ({"words": ["PAD", "UNK"]}, "answers is missing"),
        ({"words": ["PAD", "UNK", 3], "answers": ["yes"]}, "words is missing or not a list of strings"),
        ({"words": ["a", "b"], "answers": ["yes"]}, "begin with"),
        ({"words": ["PAD", "UNK"], "answers": []}, "some answers"),
        ({"words": ["PAD", "UNK"], "answers": ["yes", "no", "yes"]}, "'yes' more than once"),
    ],
)
def test_a_wrong_dict_is_refused(state, message):
    with pytest.raises(InputError, match=f"^last.ckpt: vocabulary: .*{message}"):
        Vocabulary.from_dict(state, "last.ckpt")


@given(st.text())
def test_any_text_has_tokens_without_punctuation(question):
    tokens = tokenise(question)
    assert all(tokens) and not set("".join(tokens)) & set(".,'!?\"()*#:;-/ ")
    assert tokenise(" ".join(tokens)) == tokens or not question.isascii()
