"""Questions of one's own in a table, one a row: CSV, JSON lines or Parquet, also compressed by gzip.

The columns are ``question``; ``image`` or ``image_id``, a number or a name; and ``answer`` or ``answers``, unless they
are not known. Several answers are a list (in CSV ``yes|yes|no``). Optional are ``question_id``, ``question_type``,
``answer_type`` and ``multiple_choice_answer``, so that VQA-v2 can be read as it is on the Hugging Face hub. Other
columns are not read.
"""

import csv
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from model_space.errors import InputError, one_line
from model_space.files import open_text, parse_json, read_text

CSV, JSON_LINES, PARQUET = (".csv", ".tsv"), (".jsonl", ".ndjson"), (".parquet",)
"""Endings of the names of tables."""
IMAGE = ("image_id", "image")
ANSWERS = ("answers", "answer", "multiple_choice_answer")
"""Columns that say the same: the first that a table has is read."""
COLUMNS = {
    "questions": ("question_id", "question"),
    "annotations": ("question_id", "question_type", "answer_type", "multiple_choice_answer"),
}
"""The other columns that are read, by kind of entry."""
NUMBERS = 10**8
"""Rows without a number of their own get that of the row, behind one of the names of file and folder, which keeps the
questions of two files apart."""


def is_table(path: Path) -> bool:
    """Returns whether the name of a file is that of a table.

    Example:
        >>> [is_table(Path(name)) for name in ("mine.csv", "mine.jsonl.gz", "v2_questions.json")]
        [True, True, False]
    """
    return path.name.lower().removesuffix(".gz").endswith(CSV + JSON_LINES + PARQUET)


def read_table(path: Path, kind: str) -> list[dict[str, Any]]:
    """Reads the rows of a table as entries in the form of VQA-v2, without a check of what is in them.

    Args:
        path: The table.
        kind: ``questions`` or ``annotations``.

    Raises:
        InputError: If the file is missing or broken, or has no column of images, questions or answers.
    """
    entries = []
    place = "/".join(path.absolute().parts[-2:])
    first = zlib.crc32(place.encode("utf-8", "surrogateescape")) * NUMBERS
    for number, (where, row) in enumerate(_rows(path), start=1):
        image = _one_of(row, IMAGE, path, where)
        if isinstance(image, dict):  # a picture, as it lies in Parquet
            image = image.get("path")
        entry = {"question_id": first + number, "image_id": None if image == "" else image}
        if kind == "questions":
            _one_of(row, ("question",), path, where)
        else:
            entry["answers"] = _answers(_one_of(row, ANSWERS, path, where))
        entry |= {name: row[name] for name in COLUMNS[kind] if row.get(name) not in (None, "")}
        entries.append(entry)
    return entries


def _one_of(row: dict[str, Any], names: tuple[str, ...], path: Path, where: str) -> Any:
    for name in names:
        if name in row:
            return row[name]
    expected = " or ".join(repr(name) for name in names)
    known = "; where no answers are known, the settings say annotations: null" if names == ANSWERS else ""
    raise InputError(f"{path}{where}: no column {expected}; found {', '.join(map(repr, row)) or 'none'}{known}")


def _answers(given: Any) -> Any:
    """Returns a list of texts where there are answers."""
    if isinstance(given, str):
        return [each.strip() for each in given.split("|") if each.strip()]
    if isinstance(given, list):
        return [each.get("answer") if isinstance(each, dict) else each for each in given]
    return given


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each row with its place in the file, for error messages."""
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith(PARQUET):
            yield from _of_parquet(path)
        elif name.endswith(JSON_LINES):
            yield from _of_json_lines(path)
        else:
            with open_text(path) as file:
                yield from _of_csv(path, file)
    except OSError as error:
        raise InputError(f"{path}: a table cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: a table cannot be read: {one_line(error)}") from None


def _of_csv(path: Path, lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    lines = iter(lines)
    header = next(lines, "")
    reader = csv.reader(chain([header], lines), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        for cells in reader:
            where = f", line {reader.line_num}"
            if cells and len(cells) != len(columns):
                raise InputError(f"{path}{where}: {len(cells)} cells, expected {len(columns)}: {', '.join(columns)}")
            if cells:
                yield where, dict(zip(columns, cells))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def _of_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(read_text(path, "a table").split("\n"), start=1):
        if not line.strip():
            continue
        row = parse_json(line, f"{path}, row {number}", "a row of a table")
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: expected an object of columns")
        yield f", line {number}", row


def _of_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError(f"{path}: Parquet is read by pyarrow, which is missing: pip install pyarrow") from None
    number = 0
    try:
        with ParquetFile(path) as file:
            names = file.schema_arrow.names
            # Pictures lie beside the numbers of images on the hub, a hundred times the rest.
            left_out = {"image"} if "image_id" in names else set()
            known = {*IMAGE, *ANSWERS, *(name for columns in COLUMNS.values() for name in columns)} - left_out
            for batch in file.iter_batches(columns=[name for name in names if name in known]):
                for row in batch.to_pylist():
                    number += 1
                    yield f", row {number}", row
    except ArrowException as error:
        raise InputError(f"{path}: not Parquet, or cut short: {one_line(error)}") from None
