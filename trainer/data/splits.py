"""The splits of one data set, as the settings name them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from model_space.errors import InputError
from model_space.sizes import DataSizes
from trainer.data.digits import DigitsSettings, generate, split_files
from trainer.data.questions import UNTYPED, one_release, read_annotations, read_questions
from trainer.data.vectors import WordVectors, word_vectors
from trainer.data.vocabulary import Vocabulary, frequent_answers, read_answers, words_of
from trainer.data.vqa import Entries, VQADataset
from trainer.evaluation.vqa_accuracy import Variant

T = TypeVar("T")


def _form(value: Any) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


OneOrSeveral = Annotated[
    Annotated[T, Tag("one")] | Annotated[tuple[T, ...], Field(min_length=1), Tag("several")], Discriminator(_form)
]
"""a value, or a list of such values; which of the two it is meant to be is plain before it is checked"""


class SplitSettings(BaseModel):
    """Files of one split, in the form of VQA-v2."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: Path
    annotations: Path | None = None
    """null for a split whose answers are not public"""
    features: OneOrSeveral[Path]
    """folder with one .npz an image, or a packed file; or several, each with other images"""

    @property
    def feature_paths(self) -> tuple[Path, ...]:
        return self.features if isinstance(self.features, tuple) else (self.features,)


class DataSettings(BaseModel):
    """Which files are read, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digits: DigitsSettings | None = None
    """The embedded data, which is made first if it is not there; null for other data. Unless `train` or `val` is given,
    the three splits are those of the embedded data."""
    train: OneOrSeveral[SplitSettings]
    """or several parts that are trained on together, such as train, val and Visual Genome"""
    val: SplitSettings
    test: SplitSettings | None = None
    max_tokens: int = Field(14, ge=1)
    max_regions: int = Field(100, ge=1)
    trim: bool = True
    """regions are padded to the batch's longest row, in batches of similar numbers of them; false: to `max_regions`"""
    min_answer_count: int = Field(9, ge=1)
    """an answer is in the vocabulary when so many training questions have it"""
    vocabulary: Path | None = None
    """JSON with the lists `words` and `answers`, for a published checkpoint; null: made of the training questions"""
    answers: Path | None = None
    """mcan-vqa's `answer_dict.json`, whose answers are taken as they are; null: counted in the training questions"""
    word_vectors: str | None = None
    """a spaCy pipeline with vectors, or a folder made by `spacy init vectors`; null: learned from scratch"""
    workers: int = Field(0, ge=0)
    """processes that read batches ahead, for features that are not packed; 0: the training reads them itself"""
    accuracy: Variant = "official"
    """which form of the accuracy is reported: the official one, or that of mcan-vqa's evaluator"""

    @model_validator(mode="before")
    @classmethod
    def _splits_of_digits(cls, content: Any) -> Any:
        if not isinstance(content, dict) or "train" in content or "val" in content:
            return content
        digits = content.get("digits")
        folder = digits.get("folder") if isinstance(digits, dict) else getattr(digits, "folder", None)
        return split_files(Path(folder)) | content if isinstance(folder, str | Path) else content

    @model_validator(mode="after")
    def _answers_of_one_source(self):
        if self.answers and self.vocabulary:
            raise ValueError("answers and vocabulary both say which answers there are: expected one of them")
        if missing := [str(part.questions) for part in self.train_parts if part.annotations is None]:
            raise ValueError(f"train has no annotations for {missing[0]}: expected some to learn from")
        return self

    @property
    def train_parts(self) -> tuple[SplitSettings, ...]:
        return self.train if isinstance(self.train, tuple) else (self.train,)

    @property
    def named_splits(self) -> dict[str, SplitSettings]:
        """Every split by its name: ``train``, or ``train 1``, ``train 2`` and so on, then ``val``, then ``test``."""
        parts = self.train_parts
        names = ["train"] if len(parts) == 1 else [f"train {number}" for number in range(1, len(parts) + 1)]
        splits = dict(zip(names, parts)) | {"val": self.val}
        return splits | {"test": self.test} if self.test else splits

    @property
    def final(self) -> SplitSettings:
        """The split on which results are reported: test where its answers are known, else val."""
        return self.test if self.test and self.test.annotations else self.val


@dataclass(frozen=True)
class Data:
    """What searching and training read."""

    train: VQADataset
    val: VQADataset
    sizes: DataSizes
    word_vectors: WordVectors | None = None
    """what the embedding of words starts from"""

    @property
    def vocabulary(self) -> Vocabulary:
        return self.train.vocabulary

    @property
    def stated(self) -> dict[str, int | str | None]:
        """What a run that goes on must find again."""
        return {
            "training questions": len(self.train),
            "vocabulary": self.vocabulary.digest,
            "word_vectors": self.word_vectors and self.word_vectors.source,
        }


def load_split(
    settings: DataSettings, split: SplitSettings, vocabulary: Vocabulary, entries: Entries | None = None
) -> VQADataset:
    """A split, or one part of train; ``entries`` are what its JSON files hold, where they were read already."""
    return VQADataset(
        split.questions,
        split.annotations,
        split.feature_paths,
        vocabulary,
        max_tokens=settings.max_tokens,
        max_regions=settings.max_regions,
        trim=settings.trim,
        workers=settings.workers,
        entries=entries,
    )


def load_vocabulary(settings: DataSettings) -> Vocabulary:
    """The vocabulary that the settings name, or else that of train.

    Words are those of all training questions. Answers are counted in all parts of train but Visual Genome's, whose
    annotations have no types: mcan-vqa took from it the questions whose answer is frequent in VQA, and so adds none.

    Raises:
        InputError: a file is missing or wrong.
    """
    if settings.vocabulary is not None:
        return Vocabulary.load(settings.vocabulary)
    questions = chain.from_iterable(read_questions(part.questions) for part in settings.train_parts)
    annotations = chain.from_iterable(read_annotations(part.annotations) for part in settings.train_parts)
    return make_vocabulary(settings, questions, annotations)


def make_vocabulary(settings: DataSettings, questions: Iterable[dict], annotations: Iterable[dict]) -> Vocabulary:
    """The same, of what all parts of train hold."""
    words = words_of(questions)
    if settings.answers is not None:
        return Vocabulary(words, read_answers(settings.answers))
    annotations = list(annotations)
    typed = [annotation for annotation in annotations if annotation["answer_type"] != UNTYPED]
    return Vocabulary(words, frequent_answers(typed or annotations, settings.min_answer_count))


def load_data(settings: DataSettings) -> Data:
    """Reads train and val; the vocabulary is that of train.

    Raises:
        InputError: a file is missing or wrong, val has no annotations, or the two splits' features differ in width.
    """
    if settings.val.annotations is None:
        raise InputError("data.val.annotations is missing: no epoch's accuracy could be measured")
    make_data(settings)
    parts = {part: Entries.read(part.questions, part.annotations) for part in settings.train_parts}
    if settings.vocabulary is not None:
        vocabulary = Vocabulary.load(settings.vocabulary)
    else:
        questions = chain.from_iterable(entries.questions for entries in parts.values())
        annotations = chain.from_iterable(entries.annotations for entries in parts.values())
        vocabulary = make_vocabulary(settings, questions, annotations)
    vectors = word_vectors(vocabulary, settings.word_vectors) if settings.word_vectors else None
    train = VQADataset.joined([load_split(settings, part, vocabulary, parts[part]) for part in settings.train_parts])
    val = load_split(settings, settings.val, vocabulary, parts.get(settings.val))
    ids = {
        part.questions: [(each["question_id"], each["image_id"]) for each in entries.questions]
        for part, entries in parts.items()
    }
    one_release({**ids, settings.val.questions: zip(val.question_ids, val.image_ids)})
    if val.feature_size != train.feature_size:
        raise InputError(
            f"{settings.val.features}: features are {val.feature_size} wide, those of "
            f"{settings.train_parts[0].features} are {train.feature_size}"
        )
    return Data(train, val, train.sizes, vectors)


def make_data(settings: DataSettings) -> None:
    """Makes the embedded data if the settings ask for it and it is not there."""
    if settings.digits is not None:
        generate(settings.digits)
