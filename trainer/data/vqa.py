"""A split of visual question answering, in the file form of VQA-v2, as batches of tensors.

A split is a file of questions and a file of annotations (:mod:`trainer.data.questions`), and the features of the
images (:mod:`trainer.data.features`), of any width D and any numbers of regions.
"""

import copy
import hashlib
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from model_space.errors import InputError
from model_space.sizes import DataSizes
from trainer.data.answers import SOFT_TARGETS, AccuracyVariant, agreement, normalise
from trainer.data.batches import ShuffledBatches, longest_first
from trainer.data.features.extractors import only_extractor
from trainer.data.features.features import Features, open_features
from trainer.data.features.names import ImageId
from trainer.data.features.npz import MCAN, NpzForm
from trainer.data.questions import (
    PEOPLE,
    first_three,
    matched,
    people_mistakes,
    read_annotations,
    read_questions,
)
from trainer.data.vocabulary import PADDING, UNKNOWN, Vocabulary


class Batch(NamedTuple):
    """B questions with their images. N regions and T words are those of the longest row, at least 1."""

    regions: Tensor
    """Features (B, N, D) in the type of the files, float32 or float16; zero where there is no region."""
    boxes: Tensor
    """Boxes (B, N, 4), float32: x1, y1, x2, y2 in pixels; zero where there is no region."""
    region_mask: Tensor
    """Mask (B, N), bool: true where there is a region."""
    tokens: Tensor
    """Indices of words (B, T), int64; 0 is padding, and 1 an unknown word."""
    token_mask: Tensor
    """Mask (B, T), bool: true where there is a word."""
    targets: Tensor
    """Soft targets (B, A), float32, from 0 to 1; all zero if there are no annotations."""


class Entries(NamedTuple):
    """The content of a split's two files."""

    questions: list[dict]
    annotations: list[dict] | None
    """The annotations in the order of the questions; None if there is no file."""

    @classmethod
    def read(cls, questions: str | Path, annotations: str | Path | None) -> "Entries":
        """Reads a file of questions and one of annotations.

        Raises:
            InputError: If a file is missing, broken, or does not fit the other.
        """
        asked = read_questions(questions)
        if annotations is None:
            return cls(asked, None)
        return cls(asked, matched(asked, questions, read_annotations(annotations), annotations))


class VQADataset(Dataset):
    """The questions of a split, which are read by the batch: ``dataset[[3, 1, 4]]`` is a :class:`Batch`.

    A question without any word becomes one unknown word, so that no row is all padding.

    Args:
        questions: The file of the questions.
        annotations: The file of the annotations, if there is one.
        features: Folders of ``.npz`` files, or packed files, or one of them.
        vocabulary: The words and answers of the network.
        max_tokens: The number of words of a question that are read, the first ones.
        max_regions: The number of regions of an image that are read, the first ones.
        trim: Whether a batch has as many regions as its longest row; else it always has ``max_regions``.
        workers: The number of worker processes that read batches ahead, if batches read files.
        entries: The content of the two files, if they have been read already.
        accuracy: The accuracy that will be measured, by which targets are made.
        form: What is in the ``.npz`` files.

    Raises:
        InputError: If a file is missing, broken, or does not fit the others, or a question has other answers than those
            by which the accuracy is defined.

    Example:
        >>> from trainer.data.digits.generate import generate
        >>> from trainer.data.digits.settings import DigitsSettings
        >>> from trainer.data.settings import DataSettings
        >>> from trainer.data.splits import load_split, load_vocabulary
        >>> digits = DigitsSettings(folder="data/digits", train_scenes=40, val_scenes=4)
        >>> settings = DataSettings(digits=digits)
        >>> _ = generate(digits)
        >>> dataset = load_split(settings, settings.val, load_vocabulary(settings))
        >>> dataset[[3, 1, 4]].tokens.shape[0], dataset.feature_size
        (3, 18)
    """

    question_ids: array
    """The id of each question."""
    image_ids: Sequence[ImageId]
    """The id of each question's image: an array, where all are numbers."""
    feature_size: int
    """The number D of features of a region."""
    lengths: Tensor
    """The number of regions (Q,), int64, that the batch of each question has at least."""
    workers: int
    """The number of worker processes that read batches ahead; 0 if batches read no file."""

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
        accuracy: AccuracyVariant = "official",
        form: NpzForm = MCAN,
    ):
        asked, answered = entries or Entries.read(questions, annotations)
        self.vocabulary = vocabulary
        self._files = [(questions, annotations)]
        # Arrays, not lists: their numbers would be objects of their own, in the midst of the memory that JSON took, and
        # keep it from being returned to the system.
        self.question_ids = array("q", [question["question_id"] for question in asked])
        self.image_ids = _in_array([question["image_id"] for question in asked])
        self._tokens, self._token_counts = _encode([each["question"] for each in asked], vocabulary, max_tokens)
        if not (self._tokens > UNKNOWN).any():
            raise InputError(f"{questions}: the vocabulary has none of the words of these questions")
        for mistake in people_mistakes(answered or (), accuracy):
            raise InputError(f"{annotations}: {mistake}")
        self._answers, self._answer_targets = _encode_targets(answered, len(asked), vocabulary, accuracy)
        if answered is not None and not self._answer_targets.any():
            raise InputError(f"{annotations}: the vocabulary has none of these answers")

        first_questions: dict[ImageId, int] = {}
        for image_id, question_id in zip(self.image_ids, self.question_ids):
            first_questions.setdefault(image_id, question_id)
        position = dict(zip(first_questions, range(len(first_questions))))
        self._image_of_question = torch.tensor([position[image_id] for image_id in self.image_ids])
        paths = [Path(features)] if isinstance(features, str | Path) else features
        self._features = open_features(paths, first_questions, questions, max_regions, form)
        self.feature_size = self._features.feature_size
        self.lengths = self._features.counts[self._image_of_question]
        if not trim:
            self.lengths = torch.full_like(self.lengths, max_regions)
        self.workers = workers if self._features.read_by_batch else 0

    @classmethod
    def joined(cls, parts: Sequence["VQADataset"]) -> "VQADataset":
        """Returns the questions of several parts, one part after the other. All parts have the same vocabulary.

        Raises:
            InputError: If the id of a question is in two of them, or their features differ in width or extractor.
        """
        whole = copy.copy(parts[0])
        whole._files = [file for part in parts for file in part._files]
        names = " and ".join(str(questions) for questions, _ in whole._files)
        whole.question_ids = array("q", chain.from_iterable(part.question_ids for part in parts))
        whole.image_ids = _in_array([*chain.from_iterable(part.image_ids for part in parts)])
        if len(set(whole.question_ids)) < len(whole.question_ids):
            twice = [question for question, count in Counter(whole.question_ids).items() if count > 1]
            raise InputError(f"{names}: {len(twice)} question ids are in more than one of them: {first_three(twice)}")
        only_extractor({f"images of {part._files[0][0]}": part.extractor for part in parts})
        if any(part.feature_size != whole.feature_size for part in parts):
            widths = ", ".join(str(part.feature_size) for part in parts)
            raise InputError(f"{names}: features of their images are {widths} wide: expected one width")
        whole._tokens = _rows_of([part._tokens for part in parts], PADDING)
        for name in ("_answers", "_answer_targets"):
            setattr(whole, name, _rows_of([getattr(part, name) for part in parts], 0))
        for name in ("_token_counts", "lengths"):
            setattr(whole, name, torch.cat([getattr(part, name) for part in parts]))
        images = np.cumsum([0] + [len(part._features.counts) for part in parts]).tolist()
        whole._image_of_question = torch.cat([part._image_of_question + first for part, first in zip(parts, images)])
        whole._features = Features.joined([part._features for part in parts])
        whole.workers = max(part.workers for part in parts)
        return whole

    @cached_property
    def annotations(self) -> list[dict] | None:
        """The annotations in the order of the questions, for the evaluation; None if a file is missing.

        They are read from the files when they are used first: kept from the start, they would be most of the memory of
        a training.
        """
        if any(annotations is None for _, annotations in self._files):
            return None
        return [*chain.from_iterable(Entries.read(*files).annotations or () for files in self._files)]

    def __len__(self) -> int:
        return len(self.question_ids)

    @property
    def extractor(self) -> str | None:
        """What made the features of the images, if that is known."""
        return self._features.extractor

    @property
    def sizes(self) -> DataSizes:
        """The sizes that a network for this data has."""
        return DataSizes(
            feature_size=self.feature_size,
            vocabulary_size=len(self.vocabulary.words),
            answers=len(self.vocabulary.answers),
        )

    @property
    def digest(self) -> str:
        """The digest of ids, words and answers, which tells other questions from these even where they are as many."""
        found = hashlib.sha256(self.question_ids)
        found.update(
            self.image_ids if isinstance(self.image_ids, array) else "\n".join(map(str, self.image_ids)).encode()
        )
        for each in (self._tokens, self._answers, self._answer_targets):
            found.update(each.numpy().data)
        return found.hexdigest()

    def __getitem__(self, indices: Collection[int]) -> Batch:
        """Returns the questions at some positions as one batch."""
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
    """Returns a loader of batches whose questions have similar numbers of regions.

    The positions of the questions are in the loader's ``sampler``, batch by batch.

    Args:
        dataset: The questions.
        batch_size: The number of questions of a batch.
        seed: The random seed by which each epoch is shuffled. Without one, the longest batches come first.
        drop_last: Whether the shuffled questions that do not fill a batch are left out.
    """
    whole = cast(VQADataset, dataset.dataset if isinstance(dataset, Subset) else dataset)
    lengths = whole.lengths[dataset.indices] if isinstance(dataset, Subset) else whole.lengths
    batches = (
        longest_first(lengths, batch_size) if seed is None else ShuffledBatches(lengths, batch_size, seed, drop_last)
    )
    return DataLoader(
        dataset,
        batch_size=None,  # The sampler gives whole batches.
        sampler=batches,
        num_workers=whole.workers,
        # Each pass over a loader draws a random number. If it came from the generator of the training, results would
        # depend on how often a run is interrupted.
        generator=torch.Generator(),
        # A copy from pinned memory to the device does not wait for the step before it.
        pin_memory=torch.cuda.is_available(),
    )


def sampler_of(batches: DataLoader) -> ShuffledBatches:
    """Returns what decides which questions make a batch of a shuffled :func:`loader`."""
    return cast(ShuffledBatches, batches.sampler)


def _encode(questions: list[str], vocabulary: Vocabulary, max_tokens: int) -> tuple[Tensor, Tensor]:
    """Returns the indices of words (Q, T), int32, padded, and the numbers of words (Q,), int64, at least 1."""
    rows = [vocabulary.encode(question, max_tokens) or [UNKNOWN] for question in questions]
    counts = np.array([len(row) for row in rows])
    tokens = np.full((len(rows), counts.max()), PADDING, np.int32)
    tokens[np.arange(counts.max()) < counts[:, None]] = np.fromiter(chain.from_iterable(rows), np.int32)
    return torch.from_numpy(tokens), torch.from_numpy(counts)


def _in_array(image_ids: list[ImageId]) -> Sequence[ImageId]:
    """Returns ids in an array, if all are numbers."""
    numbers = [each for each in image_ids if isinstance(each, int)]
    return array("q", numbers) if len(numbers) == len(image_ids) else image_ids


def _rows_of(parts: Sequence[Tensor], padding: int) -> Tensor:
    """Returns the rows of several matrices, padded to the longest."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, longest - part.shape[1]), value=padding) for part in parts])


def _encode_targets(
    annotations: list[dict] | None, questions: int, vocabulary: Vocabulary, accuracy: AccuracyVariant
) -> tuple[Tensor, Tensor]:
    """Returns the soft targets of all questions: indices of answers (Q, P), int32, and their targets (Q, P), float32.

    A dense matrix would have some thousand columns, while P people give at most P different answers. Of equal
    answers the first has the target. The others, and unknown answers, are answer 0 with target 0.
    """
    if annotations is None:
        return torch.zeros(questions, PEOPLE, dtype=torch.int32), torch.zeros(questions, PEOPLE)
    people = np.array([len(annotation["answers"]) for annotation in annotations])
    most = max(PEOPLE, int(people.max()))
    numbers: dict[str, int] = {}  # the number of each answer as it was given
    given = np.full((questions, most), -1, np.int32)
    for row, annotation in enumerate(annotations):
        answers = [numbers.setdefault(each["answer"], len(numbers)) for each in annotation["answers"]]
        given[row, : len(answers)] = answers
    index_of = vocabulary.answer_index
    indices = np.array([index_of.get(normalise(answer), -1) for answer in numbers] + [-1], np.int32)
    given = np.sort(indices[given], axis=1)  # Equal answers become neighbours,
    first = np.diff(given, axis=1, prepend=-1) != 0  # and an unknown answer is never the first.
    position, end = np.arange(most, dtype=np.int16), np.int16(most)
    ends = np.where(first, position, end)
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]  # where this answer or the next one begins
    counts = np.hstack([ends[:, 1:], np.full((questions, 1), end)]) - position
    if accuracy == "agreement":
        targets = agreement(counts, people[:, None]).astype(np.float32)
    else:
        targets = np.array(SOFT_TARGETS, np.float32)[np.minimum(counts, 4)]
    targets[~first] = given[~first] = 0
    return torch.from_numpy(given), torch.from_numpy(targets)
