"""The end of a search: the found architecture beside what it has to beat."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from model_space.files import write_text

ANSWER_TYPES = ("yes/no", "number", "other")


@dataclass(frozen=True)
class Row:
    """A network, or a floor, evaluated on the test questions."""

    name: str
    overall: float
    """accuracy in percent"""
    per_answer_type: dict[str, float]
    """the same, by answer type"""
    parameters: int | None = None
    seconds: float | None = None
    """of training; a floor has neither"""


def standard_error(accuracy: float, questions: int) -> float:
    """Of an accuracy in percent over so many questions: the binomial one.

    For soft accuracies, which lie between 0 and 1 per question, it is the largest that the error can be.
    """
    share = min(accuracy / 100, 1)  # a mean of 100s may be rounded up
    return 100 * math.sqrt(share * (1 - share) / questions)


def verdict(found: Row, others: Sequence[Row], questions: int) -> str:
    """Says whether the found architecture is better than the others, by more than two standard errors."""
    sayings = {"better than": [], "not better than": [], "worse than": []}
    for other in others:
        difference = found.overall - other.overall
        error = math.hypot(standard_error(found.overall, questions), standard_error(other.overall, questions))
        if abs(difference) > 2 * error:
            saying = "better than" if difference > 0 else "worse than"
        else:
            saying = "not better than"
        sayings[saying].append(f"{other.name} ({_accuracy(other, questions)})")
    said = ", ".join(f"{saying} {' and '.join(names)}" for saying, names in sayings.items() if names)
    sentence = f"{found.name[0].upper()}{found.name[1:]} ({_accuracy(found, questions)}) is {said}."
    if sayings["not better than"]:
        sentence += (
            f" A difference within two standard errors can come from the choice of the {questions} questions alone."
        )
    return sentence + " Each was trained once: another seed would move the figures further."


def table(rows: Sequence[Row], questions: int) -> Table:
    """For a terminal; percentages with their standard error over ``questions`` test questions."""
    head, lines = _cells(rows, questions)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))  # narrow enough for 80 columns
    for i, title in enumerate(head):
        table.add_column(Text(title), justify="right" if i else "left", no_wrap=True)
    for line in lines:
        table.add_row(*map(Text, line))
    return table


def markdown(rows: Sequence[Row], questions: int) -> str:
    """The same table for a page."""
    head, lines = _cells(rows, questions)
    rule = ["---", *["---:"] * (len(head) - 1)]
    escaped = ([cell.replace("\\", "\\\\").replace("|", "\\|") for cell in line] for line in (head, rule, *lines))
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def save(rows: Sequence[Row], questions: int, verdict: str, path: Path) -> None:
    """Writes ``path`` with the suffixes ``.json`` and ``.md``, each whole or not at all."""
    content = {
        "questions": questions,
        "rows": [vars(row) | {"standard_error": standard_error(row.overall, questions)} for row in rows],
        "verdict": verdict,
    }
    write_text(path.with_suffix(".json"), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_text(path.with_suffix(".md"), f"{markdown(rows, questions)}\n{verdict}\n")


def _cells(rows: Sequence[Row], questions: int) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table. VQA's answer types come first, in its order; data may have others."""
    given = {kind for row in rows for kind in row.per_answer_type}
    kinds = [kind for kind in ANSWER_TYPES if kind in given] + sorted(given.difference(ANSWER_TYPES))
    head = ["accuracy, %", "overall", *kinds, "weights", "seconds"]
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
    return head, lines


def _accuracy(row: Row, questions: int) -> str:
    return f"{row.overall:.1f} ± {standard_error(row.overall, questions):.1f}"
