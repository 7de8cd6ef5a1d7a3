"""The section ``data`` of the settings: which files are read, and how."""

from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from trainer.data.answers import AccuracyVariant
from trainer.data.digits.settings import DigitsSettings, split_files
from trainer.data.features.npz import BoxesForm, NpzForm
from trainer.data.pictures.settings import PicturesSettings
from trainer.data.tables import is_table

T = TypeVar("T")


def _form(value: Any) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


OneOrSeveral = Annotated[
    Annotated[T, Tag("one")] | Annotated[tuple[T, ...], Field(min_length=1), Tag("several")], Discriminator(_form)
]
"""A value, or a list of such values. Which of the two is meant is known before the value is checked, so that an error
is about that form alone."""


class SplitSettings(BaseModel):
    """The files of one split, in the form of VQA-v2, or a table of questions and answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: Path
    """The JSON file of the questions, or a table (CSV, JSON lines, Parquet)."""
    annotations: Path | None = None
    """The JSON file of the answers, or a table, by default that of the questions; null for a split whose answers are
    not public."""
    features: OneOrSeveral[Path]
    """A folder with one .npz an image, or what `launch.py --pack` makes one file of (docs/own_data.md); or several of
    these, each with other images."""

    @model_validator(mode="before")
    @classmethod
    def _answers_of_a_table(cls, content: Any) -> Any:
        questions = content.get("questions") if isinstance(content, dict) else None
        if isinstance(questions, str | Path) and is_table(Path(questions)):
            return {"annotations": questions} | content
        return content

    @property
    def feature_paths(self) -> tuple[Path, ...]:
        """All folders and packed files of the features."""
        return self.features if isinstance(self.features, tuple) else (self.features,)


class DataSettings(BaseModel):
    """Which files are read, and how.

    Example:
        >>> settings = DataSettings(digits={"folder": "data/digits"})
        >>> list(settings.named_splits), settings.val.features.name
        (['train', 'val', 'test'], 'val2014')
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    digits: DigitsSettings | None = None
    """The embedded data, which is made first if it is not there; null for other data. Unless `train` or `val` is given,
    the three splits are those of the embedded data."""
    train: OneOrSeveral[SplitSettings]
    """The training split, or several parts that are trained on together, such as train, val and Visual Genome."""
    val: SplitSettings
    """The split on which each epoch's accuracy is measured."""
    test: SplitSettings | None = None
    """The split whose answers are written for the evaluation server."""
    max_tokens: int = Field(14, ge=1, le=10_000)
    """The number of words of a question that are read, the first ones."""
    max_regions: int = Field(100, ge=1, le=100_000)
    """The number of regions of an image that are read, the first ones."""
    transposed: bool = False
    """Whether `x` in the .npz files is (regions, features); else it is (features, regions)."""
    boxes: BoxesForm = "files"
    """`files`: boxes are `bbox` in the .npz files; `grid`: they are the cells of a grid, of which `x` is (features,
    rows, columns), or (features, regions) for as many rows as columns; `none`: there are none, and the network gets
    zeros. So it is with mmf's features, whose boxes are `bbox`, too; other forms that are packed have their own."""
    pictures: PicturesSettings | None = None
    """What makes features of pictures, where `features` name folders of pictures (`--pack` makes them); null: they name
    features."""
    trim: bool = True
    """Whether regions are padded to the longest row of their batch, in batches of similar numbers of regions; else they
    are padded to `max_regions`."""
    min_answer_count: int = Field(9, ge=1, le=1_000_000_000)
    """An answer is in the vocabulary if at least so many training questions have it."""
    vocabulary: Path | None = None
    """JSON with the lists `words` and `answers`, for a published checkpoint; null: made of the training questions."""
    answers: Path | None = None
    """mcan-vqa's `answer_dict.json`, whose answers are taken as they are; null: counted in the training questions."""
    word_vectors: str | None = None
    """A spaCy pipeline with vectors, or a folder made by `spacy init vectors`; null: learned from scratch."""
    workers: int = Field(0, ge=0, le=1_024)
    """The worker processes that read batches ahead, for features that are not packed; 0: the training reads them."""
    accuracy: AccuracyVariant = "official"
    """Which accuracy is reported, and which targets are learned: the official one, that of mcan-vqa's evaluator, or
    agreement, which is of any number of answers to a question."""

    @model_validator(mode="before")
    @classmethod
    def _splits_of_digits(cls, content: Any) -> Any:
        if not isinstance(content, dict) or "train" in content or "val" in content:
            return content
        digits = content.get("digits")
        folder = digits.get("folder") if isinstance(digits, dict) else getattr(digits, "folder", None)
        return split_files(Path(folder)) | content if isinstance(folder, str | Path) else content

    @model_validator(mode="after")
    def _answers_of_one_source(self) -> Self:
        if self.answers and self.vocabulary:
            raise ValueError("answers and vocabulary both say which answers there are: expected one of them")
        if missing := [str(part.questions) for part in self.train_parts if part.annotations is None]:
            raise ValueError(f"train has no annotations for {missing[0]}: expected some to learn from")
        return self

    @property
    def form(self) -> NpzForm:
        """What is in the .npz files."""
        return NpzForm(self.transposed, self.boxes)

    @property
    def train_parts(self) -> tuple[SplitSettings, ...]:
        """All parts of the training split."""
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
