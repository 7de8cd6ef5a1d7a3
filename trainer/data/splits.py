"""The splits of one data set, as the settings name them."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from model_space.errors import InputError
from model_space.network import DataSizes
from trainer.data.digits import DigitsSettings, generate
from trainer.data.vocabulary import Vocabulary
from trainer.data.vqa import VQADataset, read_annotations, read_questions


class SplitSettings(BaseModel):
    """Files of one split, in the form of VQA-v2."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: Path
    annotations: Path | None = None
    """null for a split whose answers are not public"""
    features: Path
    """folder with one .npz an image"""


class DataSettings(BaseModel):
    """Which files are read, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digits: DigitsSettings | None = None
    """makes the embedded data first, unless it is there; null for data of one's own"""
    train: SplitSettings
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

    @property
    def vocabulary(self) -> Vocabulary:
        return self.train.vocabulary


def load_split(settings: DataSettings, split: SplitSettings, vocabulary: Vocabulary) -> VQADataset:
    return VQADataset(
        split.questions,
        split.annotations,
        split.features,
        vocabulary,
        max_tokens=settings.max_tokens,
        max_regions=settings.max_regions,
        trim=settings.trim,
    )


def load_vocabulary(settings: DataSettings) -> Vocabulary:
    """The vocabulary that the settings name, or else that of train.

    Raises:
        InputError: a file is missing or wrong.
    """
    if settings.vocabulary is not None:
        return Vocabulary.load(settings.vocabulary)
    return Vocabulary.build(
        read_questions(settings.train.questions),
        read_annotations(settings.train.annotations),
        settings.min_answer_count,
    )


def load_data(settings: DataSettings) -> Data:
    """Reads train and val; the vocabulary is that of train.

    Raises:
        InputError: a file is missing or wrong, or the two splits' features differ in width.
    """
    make_data(settings)
    vocabulary = load_vocabulary(settings)
    train = load_split(settings, settings.train, vocabulary)
    val = load_split(settings, settings.val, vocabulary)
    if val.feature_size != train.feature_size:
        raise InputError(
            f"{settings.val.features}: features are {val.feature_size} wide, those of {settings.train.features} are "
            f"{train.feature_size}"
        )
    return Data(train, val, train.sizes)


def make_data(settings: DataSettings) -> None:
    """Makes the embedded data if the settings ask for it and it is not there."""
    if settings.digits is not None:
        generate(settings.digits)
