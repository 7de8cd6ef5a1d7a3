"""The table and the verdict of a comparison: the found architecture beside what it has to beat."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydantic
from rich import box
from rich.table import Table
from rich.text import Text

from experiment.results.accuracy import TITLES
from model_space.errors import InputError, one_line
from model_space.files import read_text, write_text
from trainer.data.answers import AccuracyVariant
from trainer.data.questions import ANSWER_TYPES, UNTYPED


@dataclass(frozen=True)
class Evaluated:
    """A network or a baseline, evaluated on the test questions."""

    name: str
    """The name in the table."""
    overall: float
    """Accuracy over all questions, in percent."""
    per_answer_type: dict[str, float]
    """Accuracy in percent by answer type."""
    parameters: int | None = None
    """Number of weights. A baseline has none."""
    seconds: float | None = None
    """Seconds of one training. A baseline has none."""
    deviation: float | None = None
    """Standard deviation of the accuracy over all questions from training to training, if there were several."""


@dataclass(frozen=True)
class Difference:
    """How much better or worse the found architecture is than another network."""

    other: Evaluated
    """The other network."""
    points: float
    """The accuracy of the found architecture less that of the other network, in points."""
    interval: tuple[float, float]
    """Its 95 % interval."""


@dataclass(frozen=True)
class Lead:
    """A :class:`Difference` as it is saved, by the name of the other network."""

    points: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """A comparison as :func:`save` wrote it."""

    accuracy: AccuracyVariant
    questions: int
    rows: list[Evaluated]
    verdict: str
    experiment: str | None = None
    """The id of the experiment whose best architecture was compared; files of older versions do not say it."""
    differences: dict[str, Lead] = field(default_factory=dict)
    """The name of another network → how far the found architecture is above it."""


def standard_error(accuracy: float, questions: int) -> float:
    """Returns the binomial standard error of an accuracy.

    For soft accuracies, which lie between 0 and 1 per question, it is an upper bound.

    Args:
        accuracy: The accuracy in percent.
        questions: Number of questions over which the accuracy is the mean.

    Returns:
        The standard error in percent.
    """
    share = min(accuracy / 100, 1)  # a mean of 100s may be rounded up
    return 100 * math.sqrt(share * (1 - share) / questions)


def verdict(found: Evaluated, differences: Sequence[Difference], questions: int, trainings: int) -> str:
    """Returns sentences on whether the found architecture is better than others, by the intervals of the differences.

    Args:
        found: The found architecture.
        differences: What it is compared with.
        questions: Number of questions on which all were evaluated.
        trainings: Number of trainings of each.
    """
    said = []
    for each in differences:
        low, high = each.interval
        how = f"{abs(each.points):.1f} {'above' if each.points >= 0 else 'below'} {each.other.name}"
        shown = "" if low > 0 or high < 0 else ": no difference is shown"
        said.append(f"{how} (95 % interval {low:.1f} to {high:.1f}{shown})")
    sentence = f"{found.name[0].upper()}{found.name[1:]} is {', and '.join(said)}."
    if trainings == 1:
        return (
            f"{sentence} The intervals are over {questions} questions; another training would move the figures further."
        )
    return f"{sentence} The intervals are over {questions} questions and {trainings} trainings of each."


def table(rows: Sequence[Evaluated], questions: int, accuracy: AccuracyVariant = "official") -> Table:
    """Returns the table for a terminal. After the ± is the deviation over trainings, or else the standard error.

    Args:
        rows: One for each line, in this order.
        questions: Number of questions on which all were evaluated.
        accuracy: What was measured.
    """
    header, lines = cells(rows, questions, accuracy)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))  # narrow enough for 80 columns
    for i, title in enumerate(header):
        table.add_column(Text(title), justify="right" if i else "left", no_wrap=True)
    for line in lines:
        table.add_row(*map(Text, line))
    return table


def markdown(rows: Sequence[Evaluated], questions: int, accuracy: AccuracyVariant = "official") -> str:
    """Returns the table in Markdown. Its arguments are those of `table`."""
    header, lines = cells(rows, questions, accuracy)
    rule = ["---", *["---:"] * (len(header) - 1)]
    escaped = ([cell.replace("\\", "\\\\").replace("|", "\\|") for cell in line] for line in (header, rule, *lines))
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def save(
    rows: Sequence[Evaluated],
    questions: int,
    differences: Sequence[Difference],
    verdict: str,
    experiment: str,
    path: Path,
    accuracy: AccuracyVariant = "official",
) -> None:
    """Writes the figures as JSON, and the table with the verdict as Markdown.

    Args:
        rows: One for each line of the table, in this order.
        questions: Number of questions on which all were evaluated.
        differences: How the found architecture compares with others.
        verdict: What the table says in words.
        experiment: The id of the experiment that found it.
        path: The files are this path with the suffixes ``.json`` and ``.md``.
        accuracy: What was measured.

    Raises:
        InputError: A file cannot be written.
    """
    content = {
        "experiment": experiment,
        "accuracy": accuracy,
        "questions": questions,
        "rows": [vars(row) | {"standard_error": standard_error(row.overall, questions)} for row in rows],
        "differences": {each.other.name: {"points": each.points, "interval": each.interval} for each in differences},
        "verdict": verdict,
    }
    write_text(path.with_suffix(".json"), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_text(path.with_suffix(".md"), f"{markdown(rows, questions, accuracy)}\n{verdict}\n")


def read_comparison(path: Path) -> Comparison:
    """Reads the figures that :func:`save` wrote.

    Args:
        path: The file with the suffix ``.json``.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    try:
        return pydantic.TypeAdapter(Comparison).validate_json(read_text(path))
    except pydantic.ValidationError as error:
        raise InputError(f"{path}: not a comparison as `make search` writes it: {one_line(error)}") from None


def cells(rows: Sequence[Evaluated], questions: int, accuracy: AccuracyVariant) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the lines of the table, with VQA's answer types before other ones."""
    given = {kind for row in rows for kind in row.per_answer_type} - {UNTYPED}
    kinds = [kind for kind in ANSWER_TYPES if kind in given] + sorted(given.difference(ANSWER_TYPES))
    header = [TITLES[accuracy], "overall", *kinds, "weights", "seconds"]
    lines = [
        [
            row.name,
            _accuracy(row, questions),
            *(f"{row.per_answer_type[kind]:.1f}" if kind in row.per_answer_type else "–" for kind in kinds),
            "–" if row.parameters is None else f"{row.parameters:,}",
            "–" if row.seconds is None else f"{row.seconds:.0f}",
        ]
        for row in rows
    ]
    return header, lines


def _accuracy(row: Evaluated, questions: int) -> str:
    spread = standard_error(row.overall, questions) if row.deviation is None else row.deviation
    return f"{row.overall:.1f} ± {spread:.1f}"
