"""Questions and annotations in the JSON files of VQA-v2 (https://visualqa.org/download.html).

Also read are the files of VQA v1's open-ended task, in the same form, and those of Visual Genome in the form of
mcan-vqa, whose annotations have no types and fewer answers, or one answer ten times.
"""

import mmap
import re
import reprlib
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from model_space.errors import InputError
from model_space.files import read_json

ANSWER_TYPES = ("yes/no", "number", "other")
UNTYPED = "untyped"
"""The type that the questions and answers of Visual Genome get."""
PEOPLE = 10
"""The number of people who answered each question."""

RELEASES = {"v1": 10, "v2": 1000}
"""The factor by which each release of VQA multiplies the id of an image to number the questions about it."""

QUESTION_FIELDS = {"question_id": int, "image_id": int, "question": str}
ANNOTATION_FIELDS = {
    "question_id": int,
    "image_id": int,
    "question_type": str,
    "answer_type": str,
    "multiple_choice_answer": str,
    "answers": list,
}


@dataclass(frozen=True)
class Mistake:
    """A mistake in a file."""

    what: str
    """What is wrong."""
    where: str = ""
    """The entry, or the first three of several."""
    count: int | None = None
    """The number of entries, if there are several."""

    def __str__(self) -> str:
        if self.count is not None:
            return f"{self.count} {self.what}: {self.where}"
        return f"{self.where}: {self.what}" if self.where else self.what


def read_questions(path: str | Path) -> list[dict]:
    """Reads a file of questions.

    Returns:
        Dictionaries with ``question_id`` and ``image_id`` (int), and ``question`` (str).

    Raises:
        InputError: If the file cannot be read, is of another kind, lacks a field or has an id twice.
    """
    entries = load_entries(path, "questions")
    for mistake in question_mistakes(entries):
        raise InputError(f"{path}: {mistake}")
    return entries


def read_annotations(path: str | Path) -> list[dict]:
    """Reads a file of annotations.

    If no annotation of the file has types, as in that of Visual Genome, all types are :data:`UNTYPED`, and one to ten
    answers are allowed.

    Returns:
        Dictionaries with ``question_id`` and ``image_id`` (int); ``question_type``, ``answer_type`` and
        ``multiple_choice_answer`` (str); and ``answers``, ten dictionaries with ``answer`` (str) alone. Equal answers
        share one dictionary.

    Raises:
        InputError: If the file cannot be read, is of another kind, lacks a field or has an id twice.
    """
    entries = load_entries(path, "annotations")
    for mistake in annotation_mistakes(entries):
        raise InputError(f"{path}: {mistake}")
    return entries


def load_entries(path: str | Path, kind: str) -> list:
    """Reads the list under the key ``kind`` of a JSON file, without a check of its entries.

    Raises:
        InputError: If the file cannot be read, or has no such list, or an empty one.
    """
    shared: dict[str, dict] = {}

    def answer_alone(entry: dict) -> dict:
        """Shares the dictionaries of equal answers: four million dictionaries would take more than a gigabyte."""
        answer = entry.get("answer")
        return shared.setdefault(answer, {"answer": answer}) if isinstance(answer, str) else entry

    hook = answer_alone if kind == "annotations" else None
    content = read_json(Path(path), f"a file of {kind}", hook)
    entries = content.get(kind) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        found = f"the keys {', '.join(map(short, content))}" if isinstance(content, dict) else "no JSON object"
        raise InputError(f"{path}: not a file of {kind}: expected the key {kind!r}, found {found}")
    if not entries:
        raise InputError(f"{path}: holds no {kind}")
    if kind == "questions" and isinstance(entries[0], dict) and "multiple_choices" in entries[0]:
        raise InputError(
            f"{path}: questions of VQA v1's multiple-choice task, which is not supported: "
            "expected those of the open-ended one, in a file OpenEnded_mscoco_..._questions.json"
        )
    if kind == "annotations" and not any(
        isinstance(entry, dict) and ("question_type" in entry or "answer_type" in entry) for entry in entries
    ):
        for entry in entries:
            if isinstance(entry, dict):
                entry["question_type"] = entry["answer_type"] = UNTYPED
    return entries


def question_mistakes(entries: list) -> Iterator[Mistake]:
    """Yields what is wrong with the entries of a file of questions."""
    whole = yield from _wrong_fields(entries, "questions", QUESTION_FIELDS)
    if whole:
        yield from _ids_twice(entries)


def annotation_mistakes(entries: list) -> Iterator[Mistake]:
    """Yields what is wrong with the entries of a file of annotations."""
    whole = yield from _wrong_fields(entries, "annotations", ANNOTATION_FIELDS)
    if whole:
        yield from _ids_twice(entries)
        for annotation in entries:
            for what in _wrong_answers(annotation):
                yield Mistake(what, f"question {annotation['question_id']}")


def has_fields(entry: Any, fields: dict[str, type]) -> bool:
    """Returns whether an entry has all fields, each of its type."""
    return isinstance(entry, dict) and all(type(entry.get(field)) is kind for field, kind in fields.items())


def _wrong_fields(entries: list, kind: str, fields: dict[str, type]) -> Generator[Mistake, None, bool]:
    """Yields what is wrong with the fields of entries, and returns whether every entry has every field."""
    whole = True
    for place, entry in enumerate(entries):
        for field, kind_of_value in fields.items():
            value = entry.get(field) if isinstance(entry, dict) else None
            if type(value) is not kind_of_value:
                expected = {int: "a whole number", str: "text", list: "a list"}[kind_of_value]
                whole = False
                yield Mistake(f"{field} is {short(value)}, expected {expected}", f"{kind}[{place}]")
    return whole


def _ids_twice(entries: list) -> Iterator[Mistake]:
    counts = Counter(entry["question_id"] for entry in entries)
    if len(counts) < len(entries):
        twice = [question_id for question_id, count in counts.items() if count > 1]
        yield Mistake("question ids occur more than once", first_three(twice), len(twice))


def _wrong_answers(annotation: dict) -> Iterator[str]:
    kind, answers = annotation["answer_type"], annotation["answers"]
    if kind not in ANSWER_TYPES and kind != UNTYPED:
        yield f"answer_type is {short(kind)}, expected one of {', '.join(map(repr, ANSWER_TYPES))}"
    if not (len(answers) == PEOPLE or (kind == UNTYPED and 0 < len(answers) < PEOPLE)):
        yield (
            f"{len(answers)} answers, expected those of {PEOPLE} people "
            f"(a single answer may stand there {PEOPLE} times)"
        )
    if not all(isinstance(each, dict) and isinstance(each.get("answer"), str) for each in answers):
        yield 'expected answers of the form {"answer": "text", ...}'


def matched(
    questions: list[dict], questions_path: str | Path, annotations: list[dict], annotations_path: str | Path
) -> list[dict]:
    """Returns annotations in the order of their questions.

    Raises:
        InputError: If a question has no annotation, an annotation has no question, or the two are about two images.
    """
    for mistake in pairing_mistakes(questions, questions_path, annotations, annotations_path):
        raise InputError(f"{questions_path} and {annotations_path} do not belong together: {mistake}")
    by_id = {annotation["question_id"]: annotation for annotation in annotations}
    return [by_id[question["question_id"]] for question in questions]


def pairing_mistakes(
    questions: list[dict], questions_path: str | Path, annotations: list[dict], annotations_path: str | Path
) -> Iterator[Mistake]:
    """Yields questions without annotation, annotations without question, and pairs that are about two images."""
    asked = {question["question_id"]: question["image_id"] for question in questions}
    answered = {annotation["question_id"]: annotation["image_id"] for annotation in annotations}
    missing, extra = asked.keys() - answered.keys(), answered.keys() - asked.keys()
    if len(missing) == len(asked):
        # The ids tell the release, since files of v1 and v2 may have one name. They do not tell the split.
        releases = release(asked.items()), release(answered.items())
        splits = split_name(questions_path), split_name(annotations_path)
        for kind, (first, second) in {"release": releases, "split": splits}.items():
            if first and second and first != second:
                yield Mistake(
                    f"the {kind} of the first is {first}, that of the second {second}: expected files of one {kind}"
                )
                return
    if missing:
        yield Mistake("questions have no annotation", first_three(missing), len(missing))
    if extra:
        yield Mistake("annotations have no question", first_three(extra), len(extra))
    if other := [each for each in asked.keys() & answered.keys() if asked[each] != answered[each]]:
        yield Mistake(
            "questions are about one image in the first, another in the second", first_three(other), len(other)
        )


def release(ids: Iterable[tuple[int, int]]) -> str | None:
    """Returns the release of VQA that numbers questions in this way, ``v1`` or ``v2``, or None for other data.

    Args:
        ids: The id of each question and of its image.
    """
    ids = list(ids)
    for name, factor in RELEASES.items():
        if all(question_id // factor == image_id for question_id, image_id in ids):
            return name
    return None


def one_release(ids: Mapping[Path, Iterable[tuple[int, int]]]) -> None:
    """Refuses VQA v1 together with v2, which have some of their questions in common.

    Args:
        ids: For each file of questions, the id of each question and of its image.

    Raises:
        InputError: If one file is of v1 and another of v2.
    """
    of_release = {release(of_file): path for path, of_file in ids.items()}
    if RELEASES.keys() <= of_release.keys():
        raise InputError(
            f"{of_release['v1']} is of VQA v1 and {of_release['v2']} of v2: expected questions of one release"
        )


def split_name(path: str | Path) -> str | None:
    """Returns the ``data_subtype`` of a file, such as ``train2014``, or None; it may be anywhere in the file."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = re.search(rb'"data_subtype"\s*:\s*"([^"]*)"', content)
        return found[1].decode(errors="replace") if found else None


def first_three(ids: Collection[int]) -> str:
    """Returns the three smallest ids as text, for a message.

    Example:
        >>> first_three({7, 3, 9, 1})
        '1, 3, 7, ...'
    """
    return ", ".join(map(str, islice(sorted(ids), 3))) + (", ..." if len(ids) > 3 else "")


def short(value: Any) -> str:
    """Returns a value in few letters, for a message."""
    return "missing" if value is None else reprlib.repr(value)
