"""Visual question answering in the file form of VQA-v2, as batches of tensors.

Three things make a split: a questions file and an annotations file (JSON, https://visualqa.org/download.html),
and a folder with one ``.npz`` an image, as mcan-vqa stores bottom-up features: ``x`` (D, N) features of N
regions, ``bbox`` (N, 4) their corners x1, y1, x2, y2 in pixels, ``image_w`` and ``image_h`` in pixels.
Any feature width D and any numbers of regions will do, in float16 or float32.
"""

import json
import reprlib
from collections import Counter
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from model_space.errors import InputError
from model_space.network import DataSizes
from trainer.data.answers import soft_targets
from trainer.data.batches import ShuffledBatches, longest_first
from trainer.data.vocabulary import PADDING, UNKNOWN, Vocabulary

ANSWER_TYPES = ("yes/no", "number", "other")
PEOPLE = 10  # who answered each question


class Batch(NamedTuple):
    """B questions with their images. N and T are those of the batch's longest row, and at least 1."""

    regions: Tensor
    """(B, N, D) in the type of the files, float32 or float16; zero where there is no region."""
    boxes: Tensor
    """(B, N, 4) float32: x1, y1, x2, y2 in pixels, zero where there is no region."""
    region_mask: Tensor
    """(B, N) bool, true where there is a region."""
    tokens: Tensor
    """(B, T) int64 indices of words; 0 is padding, 1 an unknown word."""
    token_mask: Tensor
    """(B, T) bool, true where there is a word."""
    targets: Tensor
    """(B, A) float32 soft targets, 0 to 1; all zero without annotations."""


class VQADataset(Dataset):
    """One split in memory, a whole batch at a time: ``dataset[[3, 1, 4]]`` is a :class:`Batch`.

    Of an image with more than ``max_regions`` regions the first are taken, of a question with more than
    ``max_tokens`` words likewise. A question without any word is one unknown word: no row is all padding.

    With ``trim`` a batch has as many regions as its longest row; without, always ``max_regions``.

    Raises:
        InputError: a file is missing, broken, or does not fit the others.
    """

    question_ids: list[int]
    annotations: list[dict] | None
    """In the order of the questions, for :class:`trainer.accuracy.Evaluator`; None without a file."""
    question_types: list[str] | None
    answer_types: list[str] | None
    feature_size: int
    """D, the width of a region's features."""
    lengths: Tensor
    """(Q,) int64, by question, the regions that its batch has at least."""

    def __init__(
        self,
        questions: str | Path,
        annotations: str | Path | None,
        features: str | Path,
        vocabulary: Vocabulary,
        max_tokens: int = 14,
        max_regions: int = 100,
        trim: bool = True,
    ):
        asked = read_questions(questions)
        self.vocabulary = vocabulary
        self.question_ids = [question["question_id"] for question in asked]
        self.annotations = self.question_types = self.answer_types = None
        if annotations is not None:
            self.annotations = _matched(asked, questions, read_annotations(annotations), annotations)
            self.question_types = [annotation["question_type"] for annotation in self.annotations]
            self.answer_types = [annotation["answer_type"] for annotation in self.annotations]

        self._tokens, self._token_counts = _encode([each["question"] for each in asked], vocabulary, max_tokens)
        if not (self._tokens > UNKNOWN).any():
            raise InputError(f"{questions}: the vocabulary has none of the words of these questions")
        self._answers, self._answer_targets = _encode_targets(self.annotations, len(asked), vocabulary)
        if self.annotations is not None and not self._answer_targets.any():
            raise InputError(f"{annotations}: the vocabulary has none of these answers")

        images = {}  # image id → (its place in the packed features, the first question that asks for it)
        for question in asked:
            images.setdefault(question["image_id"], (len(images), question["question_id"]))
        self._image_of_question = torch.tensor([images[question["image_id"]][0] for question in asked])
        first_questions = {image_id: question_id for image_id, (_, question_id) in images.items()}
        paths = _feature_files(Path(features), first_questions, questions)
        self._regions, self._boxes, self._region_counts = _read_features(paths, max_regions)
        self._region_starts = self._region_counts.cumsum(0) - self._region_counts
        self.lengths = self._region_counts[self._image_of_question]
        if not trim:
            self.lengths = torch.full_like(self.lengths, max_regions)
        self.feature_size = self._regions.shape[1]

    def __len__(self) -> int:
        return len(self.question_ids)

    @property
    def sizes(self) -> DataSizes:
        return DataSizes(
            feature_size=self.feature_size, words=len(self.vocabulary.words), answers=len(self.vocabulary.answers)
        )

    def __getitem__(self, indices: Collection[int]) -> Batch:
        """The questions at these places, as one batch."""
        rows = torch.as_tensor(indices)
        images = self._image_of_question[rows]
        starts, counts = self._region_starts[images, None], self._region_counts[images, None]
        place = torch.arange(int(self.lengths[rows].max()))
        region_mask = place < counts
        # Padding reads the row of zeros behind the last region. By NumPy, whose large arrays lie in huge pages.
        index = torch.where(region_mask, starts + place, len(self._regions) - 1).numpy()

        token_counts = self._token_counts[rows, None]
        longest = int(token_counts.max())
        targets = torch.zeros(len(rows), len(self.vocabulary.answers))
        return Batch(
            regions=torch.from_numpy(self._regions[index]),
            boxes=torch.from_numpy(self._boxes[index]),
            region_mask=region_mask,
            tokens=self._tokens[rows, :longest],
            token_mask=torch.arange(longest) < token_counts,
            targets=targets.scatter_add_(1, self._answers[rows], self._answer_targets[rows]),
        )


def loader(
    dataset: VQADataset | Subset, batch_size: int, *, seed: int | None = None, drop_last: bool = False
) -> DataLoader:
    """Batches of similar lengths, shuffled afresh each epoch by ``seed``, or without one all by length, longest first.

    The places of its questions are in the loader's ``sampler``, batch by batch.

    Args:
        dataset: or a subset of one.
        drop_last: leave out the shuffled questions that do not fill a batch.
    """
    lengths = dataset.dataset.lengths[dataset.indices] if isinstance(dataset, Subset) else dataset.lengths
    batches = (
        longest_first(lengths, batch_size) if seed is None else ShuffledBatches(lengths, batch_size, seed, drop_last)
    )
    return DataLoader(
        dataset,
        batch_size=None,  # the sampler gives whole batches
        sampler=batches,
        # Each pass over a loader draws a number: not from the generator of the training, which would then depend on
        # how often a run was interrupted.
        generator=torch.Generator(),
        # From pinned memory the copy to the device does not wait for the step before it.
        pin_memory=torch.cuda.is_available(),
    )


def read_questions(path: str | Path) -> list[dict]:
    """The ``questions`` of a file: dicts with ``question_id``, ``image_id`` (int), and ``question`` (str).

    Raises:
        InputError: no such file, no JSON, another kind of file, a field missing, an id twice.
    """
    return _read_entries(path, "questions", {"question_id": int, "image_id": int, "question": str})


def read_annotations(path: str | Path) -> list[dict]:
    """The ``annotations`` of a file: dicts with ``question_id``, ``image_id`` (int),
    ``question_type``, ``answer_type``, ``multiple_choice_answer`` (str), and ``answers``, ten dicts with
    ``answer`` (str).

    Raises:
        InputError: no such file, no JSON, another kind of file, a field missing, an id twice.
    """
    strings = dict.fromkeys(("question_type", "answer_type", "multiple_choice_answer"), str)
    entries = _read_entries(path, "annotations", {"question_id": int, "image_id": int, **strings, "answers": list})
    for annotation in entries:
        where = f"{path}: question {annotation['question_id']}"
        if annotation["answer_type"] not in ANSWER_TYPES:
            known = ", ".join(map(repr, ANSWER_TYPES))
            raise InputError(f"{where}: answer_type is {_short(annotation['answer_type'])}, expected one of {known}")
        answers = annotation["answers"]
        if len(answers) != PEOPLE:
            raise InputError(
                f"{where}: {len(answers)} answers, expected those of {PEOPLE} people "
                f"(a single answer may stand there {PEOPLE} times)"
            )
        if not all(isinstance(each, dict) and isinstance(each.get("answer"), str) for each in answers):
            raise InputError(f'{where}: expected answers of the form {{"answer": "text", ...}}')
    return entries


def _read_entries(path: str | Path, kind: str, fields: dict[str, type]) -> list[dict]:
    """The list under the key ``kind`` of a JSON file; every entry has these fields, ``question_id`` once."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot read the {kind} file: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: line {error.lineno}, column {error.colno}: not JSON, or cut short: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON in UTF-8: {error}") from None

    entries = content.get(kind) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        found = f"the keys {', '.join(map(_short, content))}" if isinstance(content, dict) else "no JSON object"
        raise InputError(f"{path}: not a file of {kind}: expected the key {kind!r}, found {found}")
    if not entries:
        raise InputError(f"{path}: holds no {kind}")
    for place, entry in enumerate(entries):
        for field, kind_of_value in fields.items():
            value = entry.get(field) if isinstance(entry, dict) else None
            if type(value) is not kind_of_value:
                expected = {int: "a whole number", str: "text", list: "a list"}[kind_of_value]
                raise InputError(f"{path}: {kind}[{place}]: {field} is {_short(value)}, expected {expected}")
    counts = Counter(entry["question_id"] for entry in entries)
    if len(counts) < len(entries):
        twice = [question_id for question_id, count in counts.items() if count > 1]
        raise InputError(f"{path}: {len(twice)} question ids occur more than once: {_first_three(twice)}")
    return entries


def _matched(
    questions: list[dict], questions_path: str | Path, annotations: list[dict], annotations_path: str | Path
) -> list[dict]:
    """The annotations in the order of their questions."""
    by_id = {annotation["question_id"]: annotation for annotation in annotations}
    asked = {question["question_id"] for question in questions}
    both = f"{questions_path} and {annotations_path} do not belong together"
    if missing := [question_id for question_id in asked if question_id not in by_id]:
        raise InputError(f"{both}: {len(missing)} questions have no annotation: {_first_three(missing)}")
    if extra := [question_id for question_id in by_id if question_id not in asked]:
        raise InputError(f"{both}: {len(extra)} annotations have no question: {_first_three(extra)}")
    matched = [by_id[question["question_id"]] for question in questions]
    for question, annotation in zip(questions, matched):
        if question["image_id"] != annotation["image_id"]:
            raise InputError(
                f"{both}: question {question['question_id']} is about image {question['image_id']} "
                f"in the first and image {annotation['image_id']} in the second"
            )
    return matched


def _encode(questions: list[str], vocabulary: Vocabulary, max_tokens: int) -> tuple[Tensor, Tensor]:
    """Indices of words (Q, T) int64, padded, and numbers of words (Q,), both at least 1 long."""
    rows = [vocabulary.encode(question, max_tokens) or [UNKNOWN] for question in questions]
    counts = np.array([len(row) for row in rows])
    tokens = np.full((len(rows), counts.max()), PADDING)
    tokens[np.arange(counts.max()) < counts[:, None]] = np.concatenate(rows)
    return torch.from_numpy(tokens), torch.from_numpy(counts)


def _encode_targets(annotations: list[dict] | None, questions: int, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Soft targets by question: indices of answers (Q, K) int64 and targets (Q, K) float32.

    Ten people give K ≤ 10 different answers, where a dense matrix would have some thousand columns.
    Rows with fewer answers are filled with answer 0 and target 0.
    """
    indices = np.zeros((questions, PEOPLE), dtype=np.int64)
    targets = np.zeros((questions, PEOPLE), dtype=np.float32)
    for row, annotation in enumerate(annotations or []):
        known = [
            (vocabulary.answer_index[answer], target)
            for answer, target in soft_targets(each["answer"] for each in annotation["answers"]).items()
            if answer in vocabulary.answer_index
        ]
        if known:
            indices[row, : len(known)], targets[row, : len(known)] = zip(*known)
    return torch.from_numpy(indices), torch.from_numpy(targets)


def _feature_files(folder: Path, first_questions: dict[int, int], questions_path: str | Path) -> list[Path]:
    """The feature file of each image, in the order of ``first_questions`` (image id → a question about it).

    The image's id is the number after the last ``_`` of the file's name, up to the first ``.`` after it.
    """
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot read the folder of features: {error.strerror}") from None
    paths = {}
    for path in found:
        image_id = path.name.rpartition("_")[2].partition(".")[0]
        if path.suffix == ".npz" and image_id.isdecimal():
            other = paths.setdefault(int(image_id), path)
            if other is not path:
                raise InputError(f"{folder}: two files of image {int(image_id)}: {other.name} and {path.name}")
    if missing := [image_id for image_id in first_questions if image_id not in paths]:
        raise InputError(
            f"{folder}: no features of image {missing[0]}, which question {first_questions[missing[0]]} of "
            f"{questions_path} is about (images missing: {len(missing)}); "
            f"expected a file like COCO_train2014_{missing[0]:012d}.jpg.npz"
        )
    return [paths[image_id] for image_id in first_questions]


def _read_features(paths: list[Path], max_regions: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """All images' regions in a row and a row of zeros: features (R + 1, D), boxes (R + 1, 4); regions an image (I,).

    Features stay float16 where every file has float16.
    """
    features, boxes = [], []
    for path in paths:
        image_features, image_boxes = _read_image(path)
        if features and image_features.shape[1] != features[0].shape[1]:
            raise InputError(
                f"{path}: x has {image_features.shape[1]} features a region, {paths[0].name} has {features[0].shape[1]}"
            )
        features.append(image_features[:max_regions])
        boxes.append(image_boxes[:max_regions])
    counts = torch.tensor([len(image) for image in features])
    features.append(np.zeros_like(features[0][:1]))
    boxes.append(np.zeros_like(boxes[0][:1]))
    return np.concatenate(features), np.concatenate(boxes), counts


def _read_image(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One image's features (N, D), float16 or float32, and boxes (N, 4) float32 in pixels."""
    names = ("x", "bbox", "image_w", "image_h")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file]
            x, bbox, width, height = (None if missing else file[name] for name in names)
    except Exception as error:  # NumPy and zipfile have a dozen errors for a broken file
        raise InputError(f"{path}: broken, or not an .npz of plain arrays: {_one_line(error)}") from None
    if missing:
        raise InputError(f"{path}: no array {missing[0]!r}; expected {', '.join(names)}")

    if x.ndim != 2 or x.dtype not in (np.float16, np.float32):
        raise InputError(f"{path}: x is {x.dtype} {x.shape}, expected float32 or float16 (features, regions)")
    if x.size == 0:
        raise InputError(f"{path}: x has {x.shape[1]} regions of {x.shape[0]} features, expected at least one")
    if bbox.shape != (x.shape[1], 4) or bbox.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: bbox is {bbox.dtype} {bbox.shape}, expected numbers ({x.shape[1]}, 4) since x is {x.shape}"
        )
    for name, size in (("image_w", width), ("image_h", height)):
        if size.shape != () or size.dtype.kind not in "fiu" or not 0 < size < np.inf:
            raise InputError(f"{path}: {name} is {_short(size.tolist())}, expected a number of pixels above 0")
    for name, array in (("x", x), ("bbox", bbox)):
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name} holds NaN or infinity")
    return np.ascontiguousarray(x.T), bbox.astype(np.float32)


def _first_three(ids: Collection[int]) -> str:
    return ", ".join(map(str, islice(sorted(ids), 3))) + (", ..." if len(ids) > 3 else "")


def _short(value: Any) -> str:
    return "missing" if value is None else reprlib.repr(value)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
