"""The vocabulary: the words of questions, and the answers from which a network chooses."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from model_space.errors import InputError
from model_space.files import read_json
from trainer.data.answers import normalise

PADDING, UNKNOWN = 0, 1
"""The indices of the first two words."""
FIRST_WORDS = ("PAD", "UNK")
"""The first two words: padding, and every unknown word."""

REMOVED = re.compile(r"[.,'!?\"()*#:;]")
SEPARATING = re.compile(r"[-/]")


def tokenise(question: str) -> list[str]:
    """Splits a question into words: in lower case, without punctuation, split at spaces, hyphens and slashes.

    Example:
        >>> tokenise("What's on the black-and-white dog?")
        ['whats', 'on', 'the', 'black', 'and', 'white', 'dog']
    """
    return SEPARATING.sub(" ", REMOVED.sub("", question.lower())).split()


def words_of(questions: Iterable[dict]) -> tuple[str, ...]:
    """Returns :data:`FIRST_WORDS` and the words of questions, in the order in which they occur."""
    words = dict.fromkeys(FIRST_WORDS)
    for question in questions:
        words.update(dict.fromkeys(tokenise(question["question"])))
    return tuple(words)


def frequent_answers(annotations: Iterable[dict], min_count: int) -> tuple[str, ...]:
    """Returns the answers to at least ``min_count`` questions, by falling count, then by the alphabet.

    The answer to a question is its ``multiple_choice_answer``, the one that most of the ten people gave. mcan-vqa
    counts so too, on train2014 and val2014 with a minimum of 9, but keeps the order in which answers occur (3,129
    answers, ``utils/proc_ansdict.py``).

    Raises:
        InputError: If no answer is that frequent.
    """
    counts = Counter(normalise(annotation["multiple_choice_answer"]) for annotation in annotations)
    by_frequency = sorted(counts, key=lambda answer: (-counts[answer], answer))
    answers = tuple(answer for answer in by_frequency if counts[answer] >= min_count)
    if not answers:
        most = f"{by_frequency[0]!r}, given {counts[by_frequency[0]]} times" if by_frequency else "none at all"
        raise InputError(f"min_answer_count: {min_count} leaves no training answer; the most frequent is {most}")
    return answers


def read_answers(path: Path) -> tuple[str, ...]:
    """Reads the answers of mcan-vqa's ``answer_dict.json``, in its order, which is also that of its checkpoints.

    The file is a list of two objects: answer → index, and index, as text, → answer.

    Raises:
        InputError: If the file cannot be read or has another form.
    """
    content = read_json(path, "a file of answers")
    if not (isinstance(content, list) and len(content) == 2 and all(isinstance(each, dict) for each in content)):
        raise InputError(f"{path}: answers: expected a list of two objects, answer to index and index to answer")
    index, answers = content
    for answer, place in index.items():
        if type(place) is not int or answers.get(str(place)) != answer:
            raise InputError(
                f"{path}: answers: {answer!r} has the index {place!r}, where the second object has "
                f"{answers.get(str(place))!r}"
            )
        if normalise(answer) != answer:
            raise InputError(f"{path}: answers: {answer!r} is never met: normalised it is {normalise(answer)!r}")
    in_order = tuple(sorted(index, key=index.__getitem__))
    if not in_order or [index[answer] for answer in in_order] != list(range(len(answers))):
        raise InputError(
            f"{path}: answers: {len(index)} answers and {len(answers)} indices, expected 0, 1, 2, ... once"
        )
    return in_order


@dataclass(frozen=True)
class Vocabulary:
    """The words and answers of a network. The index of each is its position.

    A vocabulary belongs to a trained network and is in its checkpoints, as :meth:`to_dict` returns it.

    Example:
        >>> vocabulary = Vocabulary(("PAD", "UNK", "what", "is", "it"), ("yes", "no"))
        >>> vocabulary.encode("What is this?", max_tokens=14)
        [2, 3, 1]
    """

    words: tuple[str, ...]
    """The words, of which the first two are :data:`FIRST_WORDS`."""
    answers: tuple[str, ...]
    """The normalised answers."""

    def encode(self, question: str, max_tokens: int) -> list[int]:
        """Returns the indices of the first ``max_tokens`` words, an empty list for a question without words."""
        return [self.word_index.get(word, UNKNOWN) for word in tokenise(question)[:max_tokens]]

    @cached_property
    def word_index(self) -> dict[str, int]:
        """The index of each word."""
        return {word: index for index, word in enumerate(self.words)}

    @cached_property
    def answer_index(self) -> dict[str, int]:
        """The index of each answer."""
        return {answer: index for index, answer in enumerate(self.answers)}

    @property
    def digest(self) -> str:
        """The SHA-256 of words and answers, which tells vocabularies apart."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()

    def to_dict(self) -> dict[str, list[str]]:
        """Returns words and answers as plain lists, which a checkpoint can hold."""
        return {"words": list(self.words), "answers": list(self.answers)}

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads a JSON file in the form that :meth:`to_dict` returns.

        Raises:
            InputError: If the file cannot be read or has another form.
        """
        return cls.from_dict(read_json(path, "a vocabulary"), str(path))

    @classmethod
    def from_dict(cls, state: dict[str, list[str]], where: str) -> "Vocabulary":
        """Makes the vocabulary that :meth:`to_dict` returned.

        Args:
            state: The words and answers.
            where: Names their origin in error messages, such as the path of a checkpoint.

        Raises:
            InputError: If the state has another form.
        """
        lists = {}
        for key in ("words", "answers"):
            entries = state.get(key) if isinstance(state, dict) else None
            if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
                raise InputError(f"{where}: vocabulary: {key} is missing or not a list of strings")
            if len(set(entries)) < len(entries):
                repeated = next(entry for entry, count in Counter(entries).items() if count > 1)
                raise InputError(f"{where}: vocabulary: {key} holds {repeated!r} more than once")
            lists[key] = tuple(entries)
        if lists["words"][:2] != FIRST_WORDS or not lists["answers"]:
            raise InputError(f"{where}: vocabulary: expected words that begin with {FIRST_WORDS} and some answers")
        return cls(**lists)
