"""What an inspection of a data set finds: the content of each split, and all mistakes by kind."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from trainer.data.features.names import ImageId
from trainer.data.settings import SplitSettings
from trainer.data.vectors import WordVectors
from trainer.data.vocabulary import Vocabulary

EXAMPLES = 3
"""How many examples of a kind of mistake are kept."""

Progress = Callable[[str, int, int], None]
"""Is called with what is inspected, how many of it there are, and how many more of them have been inspected."""


@dataclass
class Finding:
    """One kind of mistake in one split."""

    split: str
    what: str
    stops: bool
    """Whether a search or a training with these settings stops at it."""
    count: int = 0
    examples: list[str] = field(default_factory=list)
    """Where the first three are."""


class Findings:
    """Collects mistakes by kind. Messages that differ only in numbers are of one kind."""

    def __init__(self) -> None:
        self._by_kind: dict[tuple[str, str], Finding] = {}

    def add(self, split: str, what: str, where: str, count: int = 1, stops: bool = True) -> None:
        """Adds a mistake.

        Args:
            split: The name of the split.
            what: What is wrong.
            where: The place, as an example; empty for none.
            count: How often it occurs.
            stops: Whether a search or a training with these settings stops at it.
        """
        kind = re.sub(r"\b\d+(\.\d+)?\b", "…", what)
        finding = self._by_kind.setdefault((split, kind), Finding(split, what, stops))
        finding.count += count
        if finding.what != what:
            finding.what = kind
        if len(finding.examples) < EXAMPLES and where:
            finding.examples.append(where)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._by_kind.values())


class FeaturesLocation(NamedTuple):
    """Where the features of an image are."""

    path: Path
    """The image's own file, or a packed file."""
    image_id: ImageId | None = None
    """The id of the image in a packed file; None for a file of its own."""

    def __str__(self) -> str:
        if self.image_id is None:
            return f"{self.path.parent.name}/{self.path.name}"
        return f"{self.path.name}: image {self.image_id}"


class ImageSummary(NamedTuple):
    """What an inspection keeps of the features of one image."""

    regions: int
    feature_size: int
    """The number of features of a region."""
    boxes_outside: int
    """The boxes that reach beyond the image, or whose right or lower side comes first."""


@dataclass
class SplitReport:
    """What a split holds, as far as it can be read."""

    name: str
    files: SplitSettings
    questions: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)
    images: dict[FeaturesLocation, ImageSummary] = field(default_factory=dict)
    """The images that questions are about and whose features can be read."""

    @property
    def image_ids(self) -> set[ImageId]:
        """The ids of the images that questions are about."""
        return {question["image_id"] for question in self.questions}

    @property
    def question_ids(self) -> set[int]:
        """The ids of the questions."""
        return {question["question_id"] for question in self.questions}


@dataclass
class Report:
    """What :func:`trainer.data.inspection.inspect.inspect_data` finds."""

    splits: list[SplitReport]
    findings: list[Finding]
    vocabulary: Vocabulary | None
    word_vectors: WordVectors | None

    @property
    def stops(self) -> bool:
        """Whether anything stops a search or a training."""
        return any(finding.stops for finding in self.findings)
