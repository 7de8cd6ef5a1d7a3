"""Loads the splits that the settings name, and their vocabulary."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from model_space.errors import InputError
from model_space.sizes import DataSizes
from trainer.data.digits.generate import generate
from trainer.data.features.extractors import only_extractor
from trainer.data.features.packed import extractor_of
from trainer.data.features.paths import packed_path
from trainer.data.pictures.extractor import refuse_others
from trainer.data.questions import UNTYPED, one_release, people_mistakes, read_annotations, read_questions
from trainer.data.settings import DataSettings, SplitSettings
from trainer.data.vectors import WordVectors, word_vectors
from trainer.data.vocabulary import Vocabulary, frequent_answers, read_answers, words_of
from trainer.data.vqa import Entries, VQADataset


@dataclass(frozen=True)
class Data:
    """The data that a search or a training reads."""

    train: VQADataset
    val: VQADataset
    sizes: DataSizes
    word_vectors: WordVectors | None = None
    """The vectors with which the embedding of words starts; None: it is learned from scratch."""
    described: dict[str, Any] = field(default_factory=dict)
    """What a checkpoint says of the data, see :func:`describe`."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of both splits."""
        return self.train.vocabulary

    @property
    def extractor(self) -> str | None:
        """What made the features of both splits, if that is known."""
        return self.train.extractor or self.val.extractor

    @property
    def stated(self) -> dict[str, str | None]:
        """What has to be the same when a run is resumed."""
        return {
            "training questions": self.train.digest,
            "validation questions": self.val.digest,
            "vocabulary": self.vocabulary.digest,
            "word_vectors": self.word_vectors and self.word_vectors.source,
        } | ({"extractor": self.extractor} if self.extractor else {})


def load_data(settings: DataSettings) -> Data:
    """Loads train and val with the vocabulary of the settings; makes the embedded data first if it is not there.

    Raises:
        InputError: If a file is missing or wrong, val has no annotations, or the features of the two splits differ in
            width or in what made them.

    Example:
        >>> digits = {"folder": "data/digits", "train_scenes": 40, "val_scenes": 4, "test_scenes": 4}
        >>> data = load_data(DataSettings(digits=digits))
        >>> len(data.train), data.sizes.feature_size
        (160, 18)
    """
    if settings.val.annotations is None:
        raise InputError("data.val.annotations is missing: no epoch's accuracy could be measured")
    make_data(settings)
    parts = {part: Entries.read(part.questions, part.annotations) for part in settings.train_parts}
    if settings.vocabulary is not None:
        vocabulary = Vocabulary.load(settings.vocabulary)
    else:
        questions = chain.from_iterable(entries.questions for entries in parts.values())
        annotations = chain.from_iterable(entries.annotations or () for entries in parts.values())
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
    only_extractor({"the training split": train.extractor, "the validation split": val.extractor})
    return Data(train, val, train.sizes, vectors, describe(settings, len(train), len(val)))


def describe(settings: DataSettings, train: int, val: int) -> dict[str, Any]:
    """Returns what is said of the data in a checkpoint: names and numbers, and no folder of the machine.

    Args:
        settings: What was read, and how.
        train: Number of training questions.
        val: Number of validation questions.
    """
    parts = settings.train_parts
    return {
        "name": parts[0].questions.absolute().parent.name,
        "train": {"questions": train, "files": [part.questions.name for part in parts]},
        "val": {"questions": val, "files": [settings.val.questions.name]},
        "final": "validation" if settings.final is settings.val else "test",
        "max_tokens": settings.max_tokens,
        "max_regions": settings.max_regions,
        "accuracy": settings.accuracy,
        "word_vectors": settings.word_vectors and Path(settings.word_vectors).name,
    }


def make_data(settings: DataSettings) -> None:
    """Makes the embedded data if the settings ask for it and it is not there."""
    if settings.digits is not None:
        generate(settings.digits)


def load_split(
    settings: DataSettings, split: SplitSettings, vocabulary: Vocabulary, entries: Entries | None = None
) -> VQADataset:
    """Loads a split, or one part of the training split.

    Args:
        settings: Say how it is read.
        split: Its files.
        vocabulary: The words and answers of the network.
        entries: The content of its JSON files, if they have been read already.

    Raises:
        InputError: If a file is missing or wrong.
    """
    entries = entries or Entries.read(split.questions, split.annotations)
    if settings.pictures:
        for packed in map(packed_path, split.feature_paths):
            if packed.is_file() and (made_by := extractor_of(packed)):
                refuse_others(packed, made_by, settings.pictures)
    for mistake in people_mistakes(
        entries.annotations or (), settings.accuracy, split in (settings.val, settings.test)
    ):
        raise InputError(f"{split.annotations}: {mistake}")
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
        accuracy=settings.accuracy,
        form=settings.form,
    )


def load_vocabulary(settings: DataSettings) -> Vocabulary:
    """Loads the vocabulary that the settings name, or else makes that of the training questions.

    Raises:
        InputError: If a file is missing or wrong.
    """
    if settings.vocabulary is not None:
        return Vocabulary.load(settings.vocabulary)
    questions = chain.from_iterable(read_questions(part.questions) for part in settings.train_parts)
    annotations = chain.from_iterable(
        read_annotations(each.annotations) for each in settings.train_parts if each.annotations
    )
    return make_vocabulary(settings, questions, annotations)


def make_vocabulary(settings: DataSettings, questions: Iterable[dict], annotations: Iterable[dict]) -> Vocabulary:
    """Makes the vocabulary of training questions.

    Its words are those of all questions. Its answers are counted in all annotations but those of Visual Genome, which
    have no types: mcan-vqa takes from Visual Genome only questions whose answer is frequent in VQA, and so no answers.

    Args:
        settings: Say how often an answer has to occur, or name a file of answers.
        questions: The questions of all parts of the training split.
        annotations: Their annotations.

    Raises:
        InputError: If the file of answers is missing or wrong, or no answer is frequent enough.
    """
    words = words_of(questions)
    if settings.answers is not None:
        return Vocabulary(words, read_answers(settings.answers))
    annotations = list(annotations)
    typed = [annotation for annotation in annotations if annotation["answer_type"] != UNTYPED]
    return Vocabulary(words, frequent_answers(typed or annotations, settings.min_answer_count))
