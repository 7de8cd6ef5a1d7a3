"""Looks at all files of a data set before hours are spent on it: everything that is wrong, not only the first.

What stops a search or a training is told apart from what is worth a look.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model_space.errors import InputError
from trainer.data.answers import normalise
from trainer.data.features import PACKED, image_of, packed_arrays, read_npz, readable
from trainer.data.packing import verify
from trainer.data.questions import (
    ANNOTATION_FIELDS,
    QUESTION_FIELDS,
    annotation_mistakes,
    first_three,
    has_fields,
    load_entries,
    one_release,
    pairing_mistakes,
    question_mistakes,
)
from trainer.data.splits import DataSettings, SplitSettings, make_vocabulary
from trainer.data.vectors import WordVectors, load_pipeline, word_vectors
from trainer.data.vocabulary import Vocabulary, read_answers, tokenise

EXAMPLES = 3
READERS = 4  # threads: what one waits for the disk, others use
AT_ONCE = 64  # files that a thread reads before it is given more
MB = 2**20
OUTSIDE = 1.0  # pixels that a box may reach over the edge, by rounding


@dataclass
class Finding:
    """One kind of mistake in one split."""

    split: str
    what: str
    stops: bool
    """whether a search or a training of these settings would stop at it"""
    count: int = 0
    examples: list[str] = field(default_factory=list)
    """the first three, with their files"""


@dataclass
class SplitReport:
    """What a split holds, as far as it could be read."""

    name: str
    files: SplitSettings
    questions: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)
    images: dict["Place", "Image"] = field(default_factory=dict)
    """those that questions are about and whose features can be read"""

    @property
    def image_ids(self) -> set[int]:
        return {question["image_id"] for question in self.questions}

    @property
    def question_ids(self) -> set[int]:
        return {question["question_id"] for question in self.questions}


class Image(NamedTuple):
    """The features of one image."""

    regions: int
    width: int
    boxes_outside: int
    """boxes that reach beyond the image, or whose right or lower side comes first"""


@dataclass
class Report:
    """What :func:`check` found."""

    splits: list[SplitReport]
    findings: list[Finding]
    vocabulary: Vocabulary | None
    word_vectors: WordVectors | None

    @property
    def stops(self) -> bool:
        return any(finding.stops for finding in self.findings)


class Findings:
    """Collects mistakes by kind: messages that differ in numbers alone are of one kind."""

    def __init__(self):
        self._by_kind: dict[tuple[str, str], Finding] = {}

    def add(self, split: str, what: str, where: str, count: int = 1, stops: bool = True) -> None:
        kind = re.sub(r"\b\d+(\.\d+)?\b", "…", what)
        finding = self._by_kind.setdefault((split, kind), Finding(split, what, stops))
        finding.count += count
        if finding.what != what:
            finding.what = kind
        if len(finding.examples) < EXAMPLES and where:
            finding.examples.append(where)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._by_kind.values())


Progress = Callable[[str, int, int], None]
"""is told what is looked at, how many of it there are, and how many more were seen"""


def check(settings: DataSettings, progress: Progress = lambda what, total, seen: None) -> Report:
    """Reads every file that the settings name, features included."""
    findings = Findings()
    splits = [SplitReport(name, files) for name, files in settings.named_splits.items()]
    for split in splits:
        _read_entries(split, findings, progress)
    _compare(splits, findings)
    if settings.val.annotations is None:
        findings.add("val", "no annotations are named, by which the accuracy of an epoch is measured", "")
    vocabulary = _vocabulary(settings, [split for split in splits if split.name.startswith("train")], findings)
    vectors = None
    if settings.word_vectors:
        try:
            if vocabulary:
                vectors = word_vectors(vocabulary, settings.word_vectors)
            else:
                load_pipeline(settings.word_vectors)
        except InputError as error:
            findings.add("train", str(error), "")
    if vocabulary:
        _compare_words(splits, vocabulary, findings)
    images = Images(progress)
    for split in splits:
        _read_features(split, settings.max_regions, images, findings)
    _compare_widths(splits, findings)
    return Report(splits, list(findings), vocabulary, vectors)


def _read_entries(split: SplitReport, findings: Findings, progress: Progress) -> None:
    """Questions and annotations; entries that lack a field are left out of what comes after."""
    whole = True
    for kind, fields, mistakes in (
        ("questions", QUESTION_FIELDS, question_mistakes),
        ("annotations", ANNOTATION_FIELDS, annotation_mistakes),
    ):
        path = getattr(split.files, kind)
        if path is None:
            continue
        progress(f"{split.name}: {kind}", 1, 0)
        try:
            entries = load_entries(path, kind)
        except InputError as error:
            whole = False
            findings.add(split.name, str(error), "")
        else:
            for mistake in mistakes(entries):
                findings.add(split.name, mistake.what, f"{path.name}: {mistake.where}", mistake.count or 1)
            usable = [entry for entry in entries if has_fields(entry, fields)]
            whole = whole and len(usable) == len(entries)
            setattr(split, kind, usable)
        progress(f"{split.name}: {kind}", 1, 1)
    if whole and split.annotations:
        questions, annotations = split.files.questions, split.files.annotations
        for mistake in pairing_mistakes(split.questions, questions, split.annotations, annotations):
            where = f"{questions.name} and {annotations.name}" + (f": {mistake.where}" if mistake.where else "")
            findings.add(split.name, mistake.what, where, mistake.count or 1)
    if without := [each["question_id"] for each in split.questions if not tokenise(each["question"])]:
        findings.add(split.name, "questions without a word", first_three(without), len(without), stops=False)


def _compare(splits: list[SplitReport], findings: Findings) -> None:
    """Questions and images that two splits have in common, and files of two releases of VQA."""
    for first, second in combinations(splits, 2):
        both = f"{first.name} and {second.name}"
        if common := first.question_ids & second.question_ids:
            # Twice in training, a question is two questions with one number; in val, what is measured was learned.
            stops = second.name.startswith("train")
            findings.add(both, "question ids in both", first_three(common), len(common), stops)
        elif not second.name.startswith("train") and (common := first.image_ids & second.image_ids):
            findings.add(both, "images in both", first_three(common), len(common), stops=False)
    ids = {
        split.files.questions: [(each["question_id"], each["image_id"]) for each in split.questions]
        for split in splits
        if split.questions
    }
    try:
        one_release(ids)
    except InputError as error:
        findings.add("all", str(error), "")


def _vocabulary(settings: DataSettings, train: list[SplitReport], findings: Findings) -> Vocabulary | None:
    """The vocabulary of the settings, if all that it is made of can be read."""
    try:
        if settings.vocabulary:
            return Vocabulary.load(settings.vocabulary)
        if settings.answers:
            read_answers(settings.answers)
        if all(split.questions and split.annotations for split in train):
            questions = chain.from_iterable(split.questions for split in train)
            return make_vocabulary(settings, questions, chain.from_iterable(split.annotations for split in train))
    except InputError as error:
        findings.add("train", str(error), "")
    return None


def _compare_words(splits: list[SplitReport], vocabulary: Vocabulary, findings: Findings) -> None:
    """A vocabulary of other data."""
    for split in splits:
        words = chain.from_iterable(tokenise(each["question"]) for each in split.questions)
        if split.questions and vocabulary.word_index.keys().isdisjoint(words):
            findings.add(split.name, "the vocabulary has none of the words of these questions", "")
        answers = (normalise(each["multiple_choice_answer"]) for each in split.annotations)
        if split.annotations and vocabulary.answer_index.keys().isdisjoint(answers):
            findings.add(split.name, "the vocabulary has none of these answers", "")


def _read_features(split: SplitReport, max_regions: int, images: "Images", findings: Findings) -> None:
    wanted = split.image_ids
    places: dict[int, Place] = {}
    all_listed = True
    for path in split.files.feature_paths:
        try:
            found = images.places(path)
        except InputError as error:
            findings.add(split.name, str(error), "")
            all_listed = False
            continue
        for image_id, place in found:
            first = places.setdefault(image_id, place)
            if first != place and (image_id in wanted or first.path.parent == place.path.parent):
                findings.add(split.name, "images have features twice", f"{first} and {place}")
    if (missing := wanted - places.keys()) and all_listed:
        where = " and ".join(map(str, split.files.feature_paths))
        findings.add(split.name, f"images have no features in {where}", first_three(missing), len(missing))
    of_questions = [places[image_id] for image_id in sorted(wanted) if image_id in places]
    for place, image in zip(of_questions, images.look_at(of_questions, f"{split.name}: images")):
        if isinstance(image, InputError):
            findings.add(split.name, str(image).removeprefix(f"{place.path}: "), str(place))
            continue
        split.images[place] = image
        if image.boxes_outside:
            findings.add(split.name, "boxes outside their image", str(place), image.boxes_outside, stops=False)
        if image.regions > max_regions:
            what = f"images have more than max_regions ({max_regions}) regions, of which the first are taken"
            findings.add(split.name, what, str(place), stops=False)


class Place(NamedTuple):
    """Where the features of an image are: in a file of their own, or in a packed one."""

    path: Path
    image_id: int | None = None
    """in a packed file"""

    def __str__(self) -> str:
        if self.image_id is None:
            return f"{self.path.parent.name}/{self.path.name}"
        return f"{self.path.name}: image {self.image_id}"


class Images:
    """The images of all splits, each of which is read once."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self._seen: dict[Place, Image | InputError] = {}
        self._packed: dict[Path, dict[int, Place]] = {}

    def places(self, path: Path) -> Iterable[tuple[int, Place]]:
        """The ids of all images in a folder or a packed file, and where they are.

        Raises:
            InputError: it cannot be read.
        """
        path = readable(path)
        if path.suffix == PACKED:
            if path not in self._packed:
                self._packed[path] = self._look_at_packed(path)
            return self._packed[path].items()
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            raise InputError(f"{path}: cannot read the folder of features: {error.strerror}") from None
        ids = map(image_of, names)
        return [(image_id, Place(path / name)) for image_id, name in zip(ids, names) if image_id is not None]

    def look_at(self, places: list[Place], what: str) -> list[Image | InputError]:
        """Each image, or what is wrong with it."""
        unseen = [place for place in places if place not in self._seen]
        pool = ThreadPoolExecutor(READERS)
        try:
            portions = [unseen[start : start + AT_ONCE] for start in range(0, len(unseen), AT_ONCE)]
            for done in as_completed([pool.submit(_look_at_files, portion) for portion in portions]):
                self._seen.update(done.result())
                self._progress(what, len(unseen), len(done.result()))
        finally:  # after Ctrl-C too, where what was not begun would go on to the end
            pool.shutdown(cancel_futures=True)
        return [self._seen[place] for place in places]

    def _look_at_packed(self, path: Path) -> dict[int, Place]:
        """Reads the whole file for its checksum; whoever packed it saw that all its numbers are finite."""
        looked_at = 0

        def seen(now: int, total: int) -> None:
            nonlocal looked_at
            self._progress(f"{path.name}: MB", total // MB, now // MB - looked_at)
            looked_at = now // MB

        verify(path, seen)
        arrays = packed_arrays(path)
        counts, width = arrays["counts"], arrays["features"].shape[1]
        sizes = np.repeat(arrays["sizes"], counts, axis=0)
        outside = np.add.reduceat(_outside(arrays["boxes"][: len(sizes)], sizes), counts.cumsum() - counts, dtype=int)
        places = {image_id: Place(path, image_id) for image_id in arrays["image_ids"].tolist()}
        images = (Image(regions, width, boxes) for regions, boxes in zip(counts.tolist(), outside.tolist()))
        self._seen.update(zip(places.values(), images))
        return places


def _look_at_files(places: list[Place]) -> dict[Place, Image | InputError]:
    return {place: _look_at_file(place.path) for place in places}


def _look_at_file(path: Path) -> Image | InputError:
    try:
        features, boxes, size = read_npz(path)
    except InputError as error:
        return error
    return Image(*features.shape, int(_outside(boxes, np.array(size)).sum()))


def _outside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which boxes (N, 4) reach beyond images of sizes (N, 2) or (2,), or have their right or lower side first."""
    corners, ends = boxes[:, :2], boxes[:, 2:]
    return (corners < -OUTSIDE).any(1) | (ends > sizes + OUTSIDE).any(1) | (ends < corners).any(1)


def _compare_widths(splits: Collection[SplitReport], findings: Findings) -> None:
    """The width that most images have is the right one."""
    widths = Counter(image.width for split in splits for image in split.images.values())
    if len(widths) < 2:
        return
    most = widths.most_common(1)[0][0]
    for split in splits:
        for place, image in split.images.items():
            if image.width != most:
                findings.add(split.name, f"images have features of another width than {most}", str(place))
