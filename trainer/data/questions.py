"""Questions and annotations in the JSON files of VQA-v2 (https://visualqa.org/download.html).

Also read are the files of VQA v1's open-ended task, in the same form, those of Visual Genome in the form of mcan-vqa,
whose annotations have no types and fewer answers, or one answer ten times, and tables of one's own questions
(:mod:`trainer.data.tables`). What these lack is filled in, and what they write in another way becomes as in VQA-v2.
"""

import re
import reprlib
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_space.errors import InputError
from model_space.files import read_json, read_text
from trainer.data.answers import AccuracyVariant
from trainer.data.features.names import ImageId, image_of, in_order, number_of
from trainer.data.tables import is_table, read_table

ANSWER_TYPES = ("yes/no", "number", "other")
UNTYPED = "untyped"
"""The type that questions and answers get where a file, such as Visual Genome's, tells none."""
PEOPLE = 10
"""The number of people who answered each question of VQA."""

Fields = dict[str, tuple[type, ...]]
"""The types that each field of an entry may have."""

RELEASES = {"v1": 10, "v2": 1000}
"""The factor by which each release of VQA multiplies the id of an image to number the questions about it."""

QUESTION_FIELDS: Fields = {"question_id": (int,), "image_id": (int, str), "question": (str,)}
ANNOTATION_FIELDS: Fields = {
    "question_id": (int,),
    "image_id": (int, str),
    "question_type": (str,),
    "answer_type": (str,),
    "multiple_choice_answer": (str,),
    "answers": (list,),
}
EXPECTED: dict[tuple[type, ...], str] = {
    (int,): "a whole number",
    (int, str): "a whole number or a name",
    (str,): "text",
    (list,): "a list",
}

OR_AGREEMENT = "or the setting data.accuracy: agreement, which is of any number of answers and kinds"


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
        Dictionaries with ``question_id`` (int), ``image_id`` (int or str) and ``question`` (str).

    Raises:
        InputError: If the file cannot be read, is of another kind, lacks a field or has an id twice.
    """
    entries = load_entries(path, "questions")
    for mistake in question_mistakes(entries):
        raise InputError(f"{path}: {mistake}")
    return entries


def read_annotations(path: str | Path) -> list[dict]:
    """Reads a file of annotations.

    If no annotation of the file has types, as in that of Visual Genome, all types are :data:`UNTYPED`. If none says
    which answer is the most frequent, it is counted; of several the first one is taken.

    Returns:
        Dictionaries with ``question_id`` (int) and ``image_id`` (int or str); ``question_type``, ``answer_type`` and
        ``multiple_choice_answer`` (str); and ``answers``, dictionaries with ``answer`` (str) alone, at least one. Equal
        answers share one dictionary.

    Raises:
        InputError: If the file cannot be read, is of another kind, lacks a field or has an id twice.
    """
    entries = load_entries(path, "annotations")
    for mistake in annotation_mistakes(entries):
        raise InputError(f"{path}: {mistake}")
    return entries


def load_entries(path: str | Path, kind: str) -> list:
    """Reads the list under the key ``kind`` of a JSON file, or the rows of a table, without a check of its entries.

    Raises:
        InputError: If the file cannot be read, or has no such list, or an empty one.
    """
    path = Path(path)
    entries = read_table(path, kind) if is_table(path) else _listed(path, kind)
    if not entries:
        raise InputError(f"{path}: holds no {kind}")
    complete(entries, kind)
    return entries


def _listed(path: Path, kind: str) -> list:
    shared: dict[str, dict] = {}

    def answer_alone(entry: dict) -> dict:
        """Shares the dictionaries of equal answers: four million dictionaries would take more than a gigabyte."""
        answer = entry.get("answer")
        if not isinstance(answer, str) or "question_id" in entry:
            return entry
        return shared.setdefault(answer, {"answer": answer})

    hook = answer_alone if kind == "annotations" else None
    content = read_json(path, f"a file of {kind}", hook)
    entries = content.get(kind) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        found = f"the keys {', '.join(map(short, content))}" if isinstance(content, dict) else "no JSON object"
        raise InputError(f"{path}: not a file of {kind}: expected the key {kind!r}, found {found}")
    if kind == "questions" and entries and isinstance(entries[0], dict) and "multiple_choices" in entries[0]:
        raise InputError(
            f"{path}: questions of VQA v1's multiple-choice task, which is not supported: "
            "expected those of the open-ended one, in a file OpenEnded_mscoco_..._questions.json"
        )
    return entries


def complete(entries: list, kind: str) -> None:
    """Writes entries as VQA-v2 does: numbers that are text as numbers, names of images without their endings, answers
    as a list of dictionaries, and what no annotation of the file tells."""
    shared: dict[str, dict] = {}
    found = [entry for entry in entries if isinstance(entry, dict)]
    for entry in found:
        if isinstance(name := entry.get("image_id"), str):
            entry["image_id"] = image_of(name)
        if isinstance(text := entry.get("question_id"), str) and (number := number_of(text)) is not None:
            entry["question_id"] = number
    if kind == "questions":
        return
    for entry in found:
        answers = entry.get("answers", entry.get("answer"))
        if isinstance(answers, str | int):
            answers = [answers]
        if isinstance(answers, list) and answers and not isinstance(answers[0], dict):
            texts = [str(each) if type(each) is int else each for each in answers]
            answers = [shared.setdefault(each, {"answer": each}) if isinstance(each, str) else each for each in texts]
        entry["answers"] = answers
    for field in ("question_type", "answer_type"):
        if not any(field in entry for entry in found):
            for entry in found:
                entry[field] = UNTYPED
    if not any("multiple_choice_answer" in entry for entry in found):
        for entry in found:
            if not any(_wrong_answers(entry)):
                counts = Counter(each["answer"] for each in entry["answers"])
                entry["multiple_choice_answer"] = counts.most_common(1)[0][0]


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


def has_fields(entry: Any, fields: Fields) -> bool:
    """Returns whether an entry has all fields, each of one of its types."""
    return isinstance(entry, dict) and all(type(entry.get(field)) in types for field, types in fields.items())


def _wrong_fields(entries: list, kind: str, fields: Fields) -> Generator[Mistake, None, bool]:
    """Yields what is wrong with the fields of entries, and returns whether every entry has every field."""
    whole = True
    for place, entry in enumerate(entries):
        for field, types in fields.items():
            value = entry.get(field) if isinstance(entry, dict) else None
            if type(value) not in types or (type(value) is int and not -(2**63) <= value < 2**63):
                whole = False
                yield Mistake(f"{field} is {short(value)}, expected {EXPECTED[types]}", f"{kind}[{place}]")
    return whole


def _ids_twice(entries: list) -> Iterator[Mistake]:
    counts = Counter(entry["question_id"] for entry in entries)
    if len(counts) < len(entries):
        twice = [question_id for question_id, count in counts.items() if count > 1]
        yield Mistake("question ids occur more than once", first_three(twice), len(twice))


def _wrong_answers(annotation: dict) -> Iterator[str]:
    answers = annotation.get("answers")
    if not answers:
        yield "no answers, expected at least one"
    elif not isinstance(answers, list) or not all(
        isinstance(each, dict) and isinstance(each.get("answer"), str) for each in answers
    ):
        yield 'expected answers of the form {"answer": "text", ...}, or texts'


def people_mistakes(
    annotations: Iterable[dict], variant: AccuracyVariant, evaluated: bool = False
) -> Iterator[Mistake]:
    """Yields what stands against measuring the accuracy of a variant, or learning by its targets.

    The official accuracy and mcan-vqa's are of ten answers. Fewer are allowed where there are no types and nothing is
    ``evaluated``: Visual Genome is only trained on.
    """
    if variant == "agreement":
        return
    for annotation in annotations:
        kind, answers = annotation["answer_type"], len(annotation["answers"])
        if kind not in ANSWER_TYPES and kind != UNTYPED:
            what = f"answer_type is {short(kind)}, expected one of {', '.join(map(repr, ANSWER_TYPES))}, {OR_AGREEMENT}"
        elif not (answers == PEOPLE or (kind == UNTYPED and answers < PEOPLE and not evaluated)):
            what = f"{answers} answers, expected those of {PEOPLE} people, {OR_AGREEMENT}"
        else:
            continue
        yield Mistake(what, f"question {annotation['question_id']}")


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


def release(ids: Iterable[tuple[int, ImageId]]) -> str | None:
    """Returns the release of VQA that numbers questions in this way, ``v1`` or ``v2``, or None for other data.

    Args:
        ids: The id of each question and of its image.
    """
    ids = list(ids)
    for name, factor in RELEASES.items():
        if all(question_id // factor == image_id for question_id, image_id in ids):
            return name
    return None


def one_release(ids: Mapping[Path, Iterable[tuple[int, ImageId]]]) -> None:
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
    found = re.search(r'"data_subtype"\s*:\s*"([^"]*)"', read_text(Path(path)))
    return found[1] if found else None


def first_three(ids: Collection[ImageId]) -> str:
    """Returns the three smallest ids as text, for a message.

    Example:
        >>> first_three({7, 3, 9, 1})
        '1, 3, 7, ...'
    """
    return ", ".join(map(str, in_order(ids)[:3])) + (", ..." if len(ids) > 3 else "")


def short(value: Any) -> str:
    """Returns a value in few letters, for a message."""
    return "missing" if value is None else reprlib.repr(value)
