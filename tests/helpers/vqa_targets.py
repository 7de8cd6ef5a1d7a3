"""The plain form of what the data set computes for all questions at once: vocabularies and soft targets."""

from collections import Counter
from collections.abc import Iterable

from trainer.data.answers import SOFT_TARGETS, normalise
from trainer.data.vocabulary import Vocabulary, frequent_answers, words_of


def vocabulary_of(questions: Iterable[dict], annotations: Iterable[dict], min_answer_count: int) -> Vocabulary:
    """Makes the vocabulary of questions and their annotations."""
    return Vocabulary(words_of(questions), frequent_answers(annotations, min_answer_count))


def soft_targets(answers: Iterable[str]) -> dict[str, float]:
    """Returns the probability that a network should give to each answer.

    The target is about the official accuracy of the answer: 0.3 for each person who gave it, and 1 from four people on.

    Args:
        answers: The answers of ten people to a question.

    Returns:
        The target of each normalised answer that somebody gave; the target of all others is 0.

    Example:
        >>> soft_targets(["red"] * 7 + ["Blue."] * 2 + ["green"])
        {'red': 1.0, 'blue': 0.6, 'green': 0.3}
    """
    counts = Counter(map(normalise, answers))
    return {answer: SOFT_TARGETS[min(count, 4)] for answer, count in counts.items()}
