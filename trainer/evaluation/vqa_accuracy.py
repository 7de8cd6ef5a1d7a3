"""The official VQA accuracy, a variant of it, and the baselines that any network should beat.

An answer is as right as people agree with it: for each of the ten people who answered, it is compared with
the nine others, and min(equal answers / 3, 1) is averaged over the ten (Antol et al., arXiv 1505.00468;
https://visualqa.org/evaluation.html).

``official``
    equal to GT-Vision-Lab/VQA's ``vqaEval.py``. Where people disagree, their answers and the network's are normalised
    alike; where all ten agree, none is.
``mcan``
    equal to mcan-vqa's ``utils/vqaEval.py``, by which its tables were made. The network's answer is always normalised;
    of people's, where they disagree, the punctuation alone. So an answer that people wrote with a capital, an article,
    or a number in words can never be right.
``agreement``
    for questions of one's own, which any number of people answered: :func:`trainer.data.answers.agreement`. All answers
    are normalised.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from model_space.errors import InputError
from trainer.data.answers import AccuracyVariant, agreement, normalise, without_punctuation
from trainer.data.questions import OR_AGREEMENT, PEOPLE, first_three


@dataclass(frozen=True)
class Accuracy:
    """Accuracies in percent, 0 to 100."""

    overall: float
    per_answer_type: dict[str, float]
    per_question_type: dict[str, float]
    per_question: dict[int, float]
    """The accuracy of each question by its id."""


class Evaluator:
    """Computes the accuracy of answers to annotated questions. What concerns the annotations alone is done once.

    >>> people = [{"answer": answer} for answer in ["red"] * 3 + ["blue"] * 7]
    >>> kind = {"answer_type": "other", "question_type": "what color"}
    >>> Evaluator([{"question_id": 7, "answers": people, **kind}])({7: "Red."}).overall
    90.0
    """

    def __init__(self, annotations: Iterable[dict], variant: AccuracyVariant = "official"):
        """Reads annotations, as :func:`trainer.data.questions.read_annotations` returns them.

        Raises:
            InputError: A question has not ten answers, by which the variant is defined.
        """
        mcan, any_number = variant == "mcan", variant == "agreement"
        trim, spelling = (str, lru_cache(None)(without_punctuation)) if mcan else (_trim, normalise)
        percent = _agreement if any_number else _percent
        self._questions = {}
        for annotation in annotations:
            given = [trim(answer["answer"]) for answer in annotation["answers"]]
            if not any_number and len(given) != PEOPLE:
                raise InputError(
                    f"question {annotation['question_id']} has {len(given)} answers: the accuracy '{variant}' is that "
                    f"of {PEOPLE}; expected so many, {OR_AGREEMENT}"
                )
            # The official one and mcan-vqa's compare letter by letter where all people gave the same answer.
            by_letter = not any_number and given.count(given[0]) == len(given)
            counts = {given[0]: len(given)} if by_letter else Counter(map(spelling, given))
            score = {answer: percent(count, len(given)) for answer, count in counts.items()}
            types = annotation["answer_type"], annotation["question_type"]
            self._questions[annotation["question_id"]] = (score, mcan or not by_letter, *types)

    def __call__(self, answers: Mapping[int, str]) -> Accuracy:
        """Compares the answers with those of the people.

        Args:
            answers: Question id → answer, for every annotated question and no other.

        Raises:
            InputError: There is a question without answer, or an answer without question.
        """
        self._check(answers)
        per_question = {}
        by_answer_type, by_question_type = defaultdict(list), defaultdict(list)
        for question_id, (score, normalised, answer_type, question_type) in self._questions.items():
            answer = _trim(answers[question_id])
            percent = score.get(normalise(answer) if normalised else answer, 0.0)
            per_question[question_id] = percent
            by_answer_type[answer_type].append(percent)
            by_question_type[question_type].append(percent)
        return Accuracy(
            overall=fmean(per_question.values()),
            per_answer_type={kind: fmean(values) for kind, values in sorted(by_answer_type.items())},
            per_question_type={kind: fmean(values) for kind, values in sorted(by_question_type.items())},
            per_question=per_question,
        )

    def _check(self, answers: Mapping[int, str]) -> None:
        if not self._questions:
            raise InputError("no annotated question to evaluate on")
        wrongs = (
            ("annotated questions have no answer", self._questions.keys() - answers.keys()),
            ("answers belong to no annotated question", answers.keys() - self._questions.keys()),
            ("answers are no text", [key for key, answer in answers.items() if not isinstance(answer, str)]),
        )
        for wrong, ids in wrongs:
            if ids:
                raise InputError(f"{len(ids)} of the {wrong}; question ids: {first_three(ids)}")


def most_frequent_answer(training: Iterable[dict], annotations: Iterable[dict]) -> dict[int, str]:
    """Returns, for every question id, the most frequent answer in training: the first baseline."""
    answer = _most_frequent(Counter(normalise(each["multiple_choice_answer"]) for each in training))
    return {annotation["question_id"]: answer for annotation in annotations}


def most_frequent_answer_of_form(training: Collection[dict], annotations: Iterable[dict]) -> dict[int, str]:
    """Returns the second baseline: the most frequent answer in training among questions of the same ``question_type``.

    A form that training does not have gets the most frequent answer of all. Question id → answer.
    """
    overall: Counter[str] = Counter()
    by_form: dict[str, Counter[str]] = defaultdict(Counter)
    for each in training:
        answer = normalise(each["multiple_choice_answer"])
        overall[answer] += 1
        by_form[each["question_type"]][answer] += 1
    best = {form: _most_frequent(counts) for form, counts in by_form.items()}
    fallback = _most_frequent(overall)
    return {each["question_id"]: best.get(each["question_type"], fallback) for each in annotations}


def _most_frequent(counts: Counter) -> str:
    """Returns the most frequent answer. The alphabet decides between equals, not the order of a file."""
    return min(counts, key=lambda answer: (-counts[answer], answer))


@lru_cache(maxsize=2**10)
def _percent(count: int, people: int) -> float:
    """Returns the accuracy in percent of an answer that ``count`` of the ``people`` gave."""
    by_those_who_gave_it = count * min((count - 1) / 3, 1)
    by_the_others = (people - count) * min(count / 3, 1)
    return 100 * ((by_those_who_gave_it + by_the_others) / people)


def _agreement(count: int, people: int) -> float:
    """Returns the agreement in percent of an answer that ``count`` of the ``people`` gave."""
    return 100 * float(agreement(count, people))


@lru_cache(maxsize=2**20)
def _trim(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()
