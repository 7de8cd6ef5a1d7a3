import json
import re
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_space.errors import InputError
from tests.helpers.official import write_official
from tests.helpers.paths import GOLDEN, ROOT
from tests.helpers.vqa_targets import vocabulary_of
from trainer.data.questions import read_annotations, read_questions
from trainer.data.settings import DataSettings
from trainer.data.splits import load_vocabulary
from trainer.data.vocabulary import Vocabulary, frequent_answers, read_answers, tokenise, words_of

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
    vocabulary = vocabulary_of(QUESTIONS, annotations_of("yes"), min_answer_count=1)
    assert vocabulary.words == ("PAD", "UNK", "is", "it", "red", "a", "bus", "truck")
    assert vocabulary.encode("Is the truck red", 3) == [2, 1, 7]


def test_answers_are_ordered_by_count_then_alphabet_and_counted_normalised():
    annotations = annotations_of("no", "Yes.", "b", "yes", "the two", "2", "c", "a dog")
    assert vocabulary_of(QUESTIONS, annotations, 2).answers == ("2", "yes")
    assert vocabulary_of(QUESTIONS, annotations[::-1], 1).answers == ("2", "yes", "b", "c", "dog", "no")


@pytest.mark.parametrize(("annotations", "most"), [(annotations_of("no", "yes", "no"), "'no', given 2"), ([], "none")])
def test_no_answer_is_frequent_enough(annotations, most):
    with pytest.raises(InputError, match=f"^min_answer_count: 9 leaves no training answer.*{most}"):
        vocabulary_of(QUESTIONS, annotations, 9)


def test_goes_through_a_plain_dict():
    vocabulary = vocabulary_of(QUESTIONS, annotations_of("yes"), 1)
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


def answer_dict(path, answers, indices=None):
    """A file as mcan-vqa's ``answer_dict.json``."""
    path.write_text(json.dumps([answers, indices or {str(place): answer for answer, place in answers.items()}]))
    return path


def test_answers_of_mcan_are_taken_in_its_order(tmp_path):
    answers = {"net": 0, "yes": 3, "": 2, "isn't it": 1}
    assert read_answers(answer_dict(tmp_path / "answer_dict.json", answers)) == ("net", "isn't it", "", "yes")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1, column 1: not a file of answers: the JSON ends or breaks here"),
        ('["yes", "no"]', "expected a list of two objects, answer to index and index to answer"),
        ('{"yes": 0}', "expected a list of two objects"),
        ('[{"yes": 0, "no": 1}, {"0": "yes", "1": "yes"}]', "'no' has the index 1, where the second object has 'yes'"),
        ('[{"yes": 0, "no": 2}, {"0": "yes", "2": "no"}]', "2 answers and 2 indices, expected 0, 1, 2"),
        ('[{"yes": 0}, {"0": "yes", "1": "no"}]', "1 answers and 2 indices"),
        ('[{"yes": "0"}, {"0": "yes"}]', "'yes' has the index '0'"),
        ('[{"The Net.": 0}, {"0": "The Net."}]', "'The Net.' is never met: normalised it is 'net'"),
        ("[{}, {}]", "0 answers and 0 indices"),
    ],
)
def test_a_wrong_answer_dict_is_refused(tmp_path, content, message):
    path = tmp_path / "answer_dict.json"
    path.write_text(content)
    with pytest.raises(InputError, match=f"^{path}[:,].*{message}") as error:
        read_answers(path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"absent.json: a file of answers cannot be read: No such file"):
        read_answers(tmp_path / "absent.json")


def test_the_vocabulary_that_settings_name(tmp_path):
    files = write_official(tmp_path, vg=30)
    splits = {"train": (files.train._asdict(), files.vg._asdict()), "val": files.val._asdict()}
    questions = read_questions(files.train.questions) + read_questions(files.vg.questions)
    counted = load_vocabulary(DataSettings(**splits, min_answer_count=1))
    assert counted.words == words_of(questions)
    # Visual Genome's answers are not counted.
    assert counted.answers == frequent_answers(read_annotations(files.train.annotations), 1)
    assert set(counted.answers) < set(
        frequent_answers(read_annotations(files.train.annotations) + read_annotations(files.vg.annotations), 1)
    )
    path = answer_dict(tmp_path / "answer_dict.json", {"no": 0, "yes": 1})
    assert load_vocabulary(DataSettings(**splits, answers=path)).answers == ("no", "yes")
    with pytest.raises(ValueError, match="answers and vocabulary both say which answers there are"):
        DataSettings(**splits, answers=path, vocabulary=path)
    with pytest.raises(ValueError, match=r"train has no annotations for .*test2015_questions.json"):
        DataSettings(train=files.test._asdict(), val=files.val._asdict())


def test_the_vocabulary_of_mcan_as_the_documents_make_it(tmp_path, monkeypatch):
    files = write_official(tmp_path / "data" / "vqa2", vg=30)
    answer_dict(tmp_path / "answer_dict.json", {"no": 0, "yes": 1})
    document = (ROOT / "docs" / "vqa2.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent(lines), {})
    splits = {"train": files.train._asdict(), "val": files.val._asdict()}
    vocabulary = load_vocabulary(DataSettings(**splits, vocabulary=tmp_path / "mcan.json"))
    in_order = [each.questions for each in (files.train, files.val, files.test, files.vg)]
    assert vocabulary.words == words_of(question for path in in_order for question in read_questions(path))
    assert vocabulary.answers == ("no", "yes")
