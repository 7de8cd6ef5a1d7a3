"""Visual question answering in the file form of VQA-v2, as batches of tensors.

Three things make a split: a questions file and an annotations file (JSON, https://visualqa.org/download.html),
and the images' features (:mod:`trainer.data.features`), of any width D and any numbers of regions.
"""

import copy
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from model_space.errors import InputError
from model_space.sizes import DataSizes
from trainer.data.answers import SOFT_TARGETS, normalise
from trainer.data.batches import ShuffledBatches, longest_first
from trainer.data.features.features import Features, open_features
from trainer.data.questions import PEOPLE, first_three, matched, read_annotations, read_questions
from trainer.data.vocabulary import PADDING, UNKNOWN, Vocabulary


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


class Entries(NamedTuple):
    """What the JSON files of a split hold."""

    questions: list[dict]
    annotations: list[dict] | None
    """in the order of the questions"""

    @classmethod
    def read(cls, questions: str | Path, annotations: str | Path | None) -> "Entries":
        """Reads both.

        Raises:
            InputError: a file is missing, broken, or does not fit the other.
        """
        asked = read_questions(questions)
        if annotations is None:
            return cls(asked, None)
        return cls(asked, matched(asked, questions, read_annotations(annotations), annotations))


class VQADataset(Dataset):
    """One split, a whole batch at a time: ``dataset[[3, 1, 4]]`` is a :class:`Batch`.

    Of an image with more than ``max_regions`` regions the first are taken, of a question with more than
    ``max_tokens`` words likewise. A question without any word is one unknown word: no row is all padding.

    With ``trim`` a batch has as many regions as its longest row; without, always ``max_regions``.

    Raises:
        InputError: a file is missing, broken, or does not fit the others.
    """

    question_ids: array
    image_ids: array
    """The image of each question."""
    feature_size: int
    """D, the width of a region's features."""
    lengths: Tensor
    """(Q,) int64, by question, the regions that its batch has at least."""
    workers: int
    """processes that read batches ahead; 0: batches read no file"""

    def __init__(
        self,
        questions: str | Path,
        annotations: str | Path | None,
        features: str | Path | Sequence[Path],
        vocabulary: Vocabulary,
        max_tokens: int = 14,
        max_regions: int = 100,
        trim: bool = True,
        workers: int = 0,
        entries: Entries | None = None,
    ):
        """``entries`` are what the first two files hold, where they were read already."""
        asked, answered = entries or Entries.read(questions, annotations)
        self.vocabulary = vocabulary
        self._files = [(questions, annotations)]
        # Not lists: their numbers, each an object, would keep from the system much of the memory that JSON took.
        self.question_ids = array("q", [question["question_id"] for question in asked])
        self.image_ids = array("q", [question["image_id"] for question in asked])
        self._tokens, self._token_counts = _encode([each["question"] for each in asked], vocabulary, max_tokens)
        if not (self._tokens > UNKNOWN).any():
            raise InputError(f"{questions}: the vocabulary has none of the words of these questions")
        self._answers, self._answer_targets = _encode_targets(answered, len(asked), vocabulary)
        if answered is not None and not self._answer_targets.any():
            raise InputError(f"{annotations}: the vocabulary has none of these answers")

        first_questions: dict[int, int] = {}
        for image_id, question_id in zip(self.image_ids, self.question_ids):
            first_questions.setdefault(image_id, question_id)
        place = dict(zip(first_questions, range(len(first_questions))))
        self._image_of_question = torch.tensor([place[image_id] for image_id in self.image_ids])
        paths = [Path(features)] if isinstance(features, str | Path) else features
        self._features = open_features(paths, first_questions, questions, max_regions)
        self.feature_size = self._features.feature_size
        self.lengths = self._features.counts[self._image_of_question]
        if not trim:
            self.lengths = torch.full_like(self.lengths, max_regions)
        self.workers = workers if self._features.read_by_batch else 0

    @classmethod
    def joined(cls, parts: Sequence["VQADataset"]) -> "VQADataset":
        """The questions of several, one part after the other; all of one vocabulary.

        Raises:
            InputError: a question's id is in two of them, or features differ in width.
        """
        whole = copy.copy(parts[0])
        whole._files = [file for part in parts for file in part._files]
        names = " and ".join(str(questions) for questions, _ in whole._files)
        whole.question_ids, whole.image_ids = (
            array("q", chain.from_iterable(getattr(part, name) for part in parts))
            for name in ("question_ids", "image_ids")
        )
        if len(set(whole.question_ids)) < len(whole.question_ids):
            twice = [question for question, count in Counter(whole.question_ids).items() if count > 1]
            raise InputError(f"{names}: {len(twice)} question ids are in more than one of them: {first_three(twice)}")
        if any(part.feature_size != whole.feature_size for part in parts):
            widths = ", ".join(str(part.feature_size) for part in parts)
            raise InputError(f"{names}: features of their images are {widths} wide: expected one width")
        longest = max(part._tokens.shape[1] for part in parts)
        padded = [
            nn.functional.pad(part._tokens, (0, longest - part._tokens.shape[1]), value=PADDING) for part in parts
        ]
        whole._tokens = torch.cat(padded)
        for name in ("_token_counts", "_answers", "_answer_targets", "lengths"):
            setattr(whole, name, torch.cat([getattr(part, name) for part in parts]))
        images = np.cumsum([0] + [len(part._features.counts) for part in parts]).tolist()
        whole._image_of_question = torch.cat([part._image_of_question + first for part, first in zip(parts, images)])
        whole._features = Features.joined([part._features for part in parts])
        whole.workers = max(part.workers for part in parts)
        return whole

    @cached_property
    def annotations(self) -> list[dict] | None:
        """In the order of the questions, for :class:`trainer.evaluation.vqa_accuracy.Evaluator`; None without a file.

        Read again when they are asked for: as dictionaries they would be most of the memory of a training.
        """
        if any(annotations is None for _, annotations in self._files):
            return None
        return [*chain.from_iterable(Entries.read(*files).annotations for files in self._files)]

    def __len__(self) -> int:
        return len(self.question_ids)

    @property
    def sizes(self) -> DataSizes:
        return DataSizes(
            feature_size=self.feature_size,
            vocabulary_size=len(self.vocabulary.words),
            answers=len(self.vocabulary.answers),
        )

    def __getitem__(self, indices: Collection[int]) -> Batch:
        """The questions at these places, as one batch."""
        rows = torch.as_tensor(indices)
        images, most = self._image_of_question[rows], int(self.lengths[rows].max())
        regions, boxes = self._features.gather(images, most)
        token_counts = self._token_counts[rows, None]
        longest = int(token_counts.max())
        targets = torch.zeros(len(rows), len(self.vocabulary.answers))
        return Batch(
            regions=regions,
            boxes=boxes,
            region_mask=torch.arange(most) < self._features.counts[images, None],
            tokens=self._tokens[rows, :longest].long(),
            token_mask=torch.arange(longest) < token_counts,
            targets=targets.scatter_add_(1, self._answers[rows].long(), self._answer_targets[rows]),
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
    whole = dataset.dataset if isinstance(dataset, Subset) else dataset
    lengths = whole.lengths[dataset.indices] if isinstance(dataset, Subset) else whole.lengths
    batches = (
        longest_first(lengths, batch_size) if seed is None else ShuffledBatches(lengths, batch_size, seed, drop_last)
    )
    return DataLoader(
        dataset,
        batch_size=None,  # the sampler gives whole batches
        sampler=batches,
        num_workers=whole.workers,
        # Each pass over a loader draws a number: not from the generator of the training, which would then depend on
        # how often a run was interrupted.
        generator=torch.Generator(),
        # From pinned memory the copy to the device does not wait for the step before it.
        pin_memory=torch.cuda.is_available(),
    )


def _encode(questions: list[str], vocabulary: Vocabulary, max_tokens: int) -> tuple[Tensor, Tensor]:
    """Indices of words (Q, T) int32, padded, and numbers of words (Q,) int64, both at least 1 long."""
    rows = [vocabulary.encode(question, max_tokens) or [UNKNOWN] for question in questions]
    counts = np.array([len(row) for row in rows])
    tokens = np.full((len(rows), counts.max()), PADDING, np.int32)
    tokens[np.arange(counts.max()) < counts[:, None]] = np.fromiter(chain.from_iterable(rows), np.int32)
    return torch.from_numpy(tokens), torch.from_numpy(counts)


def _encode_targets(annotations: list[dict] | None, questions: int, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Soft targets by question, as :func:`trainer.data.answers.soft_targets` has them: indices of answers (Q, K) int32
    and targets (Q, K) float32.

    Ten people give K ≤ 10 different answers, where a dense matrix would have some thousand columns.
    Of a row's equal answers the first has the target, the others, as unknown answers, answer 0 and target 0.
    """
    if annotations is None:
        return torch.zeros(questions, PEOPLE, dtype=torch.int32), torch.zeros(questions, PEOPLE)
    numbers: dict[str, int] = {}  # of the answers as they were given
    given = np.full((questions, PEOPLE), -1, np.int32)
    for row, annotation in enumerate(annotations):
        answers = [numbers.setdefault(each["answer"], len(numbers)) for each in annotation["answers"]]
        given[row, : len(answers)] = answers
    index_of = vocabulary.answer_index
    indices = np.array([index_of.get(normalise(answer), -1) for answer in numbers] + [-1], np.int32)
    given = np.sort(indices[given], axis=1)  # equal answers are neighbours
    first = np.diff(given, axis=1, prepend=-1) != 0  # and an unknown one is never the first
    place, end = np.arange(PEOPLE, dtype=np.int8), np.int8(PEOPLE)
    ends = np.where(first, place, end)
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]  # where the next answer begins, or this one
    counts = np.hstack([ends[:, 1:], np.full((questions, 1), end)]) - place
    targets = np.array(SOFT_TARGETS, np.float32)[np.minimum(counts, 4)]
    targets[~first] = given[~first] = 0
    return torch.from_numpy(given), torch.from_numpy(targets)
