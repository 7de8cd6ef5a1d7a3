"""The words that questions are made of, and the answers that a network chooses from."""

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

PADDING, UNKNOWN = 0, 1  # the indices of the first two words
FIRST_WORDS = ("PAD", "UNK")

REMOVED = re.compile(r"[.,'!?\"()*#:;]")
SEPARATING = re.compile(r"[-/]")


def tokenise(question: str) -> list[str]:
    """The question's words: lower case, no punctuation, parted at spaces, hyphens and slashes.

    >>> tokenise("What's on the black-and-white dog?")
    ['whats', 'on', 'the', 'black', 'and', 'white', 'dog']
    """
    return SEPARATING.sub(" ", REMOVED.sub("", question.lower())).split()


def words_of(questions: Iterable[dict]) -> tuple[str, ...]:
    """The words of questions in the order met, behind those that stand for padding and for unknown words."""
    words = dict.fromkeys(FIRST_WORDS)
    for question in questions:
        words.update(dict.fromkeys(tokenise(question["question"])))
    return tuple(words)


def frequent_answers(annotations: Iterable[dict], min_count: int) -> tuple[str, ...]:
    """Answers to ``min_count`` questions or more, by falling count, then by the alphabet.

    An answer is counted where it is the ``multiple_choice_answer``, the one given most often by the ten. mcan-vqa
    counts so too, on train2014 and val2014 with 9, and keeps the order met (3,129 answers, ``utils/proc_ansdict.py``).

    Raises:
        InputError: no answer is that frequent.
    """
    counts = Counter(normalise(annotation["multiple_choice_answer"]) for annotation in annotations)
    by_frequency = sorted(counts, key=lambda answer: (-counts[answer], answer))
    answers = tuple(answer for answer in by_frequency if counts[answer] >= min_count)
    if not answers:
        most = f"{by_frequency[0]!r}, given {counts[by_frequency[0]]} times" if by_frequency else "none at all"
        raise InputError(f"min_answer_count: {min_count} leaves no training answer; the most frequent is {most}")
    return answers


def read_answers(path: Path) -> tuple[str, ...]:
    """The answers of mcan-vqa's ``answer_dict.json`` in its order, which its checkpoints have.

    The file is a list of two objects: answer → index, and index, as text, → answer.

    Raises:
        InputError: no such file, or something else.
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
    in_order = tuple(sorted(index, key=index.get))
    if not in_order or [index[answer] for answer in in_order] != list(range(len(answers))):
        raise InputError(
            f"{path}: answers: {len(index)} answers and {len(answers)} indices, expected 0, 1, 2, ... once"
        )
    return in_order


@dataclass(frozen=True)
class Vocabulary:
    """Word and answer lists; a word's or an answer's index is its place in the list.

    It belongs to a trained network, and so goes into its checkpoints: :meth:`to_dict`, :meth:`from_dict`.
    """

    words: tuple[str, ...]
    """Word 0 stands for padding, word 1 for every unknown word."""

    answers: tuple[str, ...]
    """Normalised answers."""

    @classmethod
    def build(cls, questions: Iterable[dict], annotations: Iterable[dict], min_answer_count: int) -> "Vocabulary":
        """The :func:`words_of` training questions and the :func:`frequent_answers` to them."""
        return cls(words_of(questions), frequent_answers(annotations, min_answer_count))

    def encode(self, question: str, max_tokens: int) -> list[int]:
        """Indices of the first ``max_tokens`` words; an empty list for a question without words."""
        return [self.word_index.get(word, UNKNOWN) for word in tokenise(question)[:max_tokens]]

    @cached_property
    def word_index(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    @cached_property
    def answer_index(self) -> dict[str, int]:
        return {answer: index for index, answer in enumerate(self.answers)}

    @property
    def digest(self) -> str:
        """Tells vocabularies apart: a network means its answers by their places."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()

    def to_dict(self) -> dict[str, list[str]]:
        """Plain lists of strings, as a checkpoint may hold them."""
        return {"words": list(self.words), "answers": list(self.answers)}

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads a JSON file of what :meth:`to_dict` gives.

        Raises:
            InputError: no such file, or something else.
        """
        return cls.from_dict(read_json(path, "a vocabulary"), str(path))

    @classmethod
    def from_dict(cls, state: dict[str, list[str]], where: str) -> "Vocabulary":
        """What :meth:`to_dict` gave.

        Args:
            where: names the source in errors, such as a checkpoint's path.

        Raises:
            InputError: it is something else.
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
