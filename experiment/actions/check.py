"""``launch.py --check``: what the files of the settings hold, and what is wrong with them, before hours are spent."""

from collections.abc import Collection
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from experiment.results.accuracy import VARIANTS
from experiment.settings import read_settings
from model_space.errors import InputError
from model_space.sizes import DataSizes
from trainer.data.answers import normalise
from trainer.data.inspection.inspect import inspect_data
from trainer.data.inspection.report import Finding, Report, SplitReport
from trainer.data.settings import DataSettings
from trainer.data.splits import make_data
from trainer.data.vectors import check_width
from trainer.data.vocabulary import FIRST_WORDS, Vocabulary, tokenise
from trainer.memory import refuse_too_large

WELL, WORTH_A_LOOK, STOPS = 0, 1, 2
"""Exit codes."""
BOXES = {"files": "in the files", "grid": "the cells of the grid", "none": "none"}
"""Where the boxes of regions are from, in words."""


class Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def run(console: Console, settings: Path) -> int:
    """Reads everything that the settings name, with a progress bar, and prints what it holds and what is wrong.

    Args:
        console: Where tables are printed.
        settings: Settings file.

    Returns:
        The exit code: 0 where all is well, 1 where something is worth a look, 2 where something stops a training.
    """
    read = read_settings(settings)
    data = read.data
    make_data(data)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        tasks = {}

        def progress(what: str, total: int, seen: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.advance(tasks[what], seen)

        report = inspect_data(data, progress)
    if report.word_vectors:
        try:
            check_width(report.word_vectors, read.network.embedding_dim)
        except InputError as error:
            report.findings.append(Finding("train", str(error), stops=True, count=1))
    if sizes := sizes_of(report):
        try:
            space = read.space_for(sizes)
            refuse_too_large(space.parameters(), "the supernet" if space.candidates() else "the network")
        except InputError as error:
            report.findings.append(Finding("all", str(error), stops=True, count=1))
    console.print(splits_table(report.splits), soft_wrap=False)
    if report.vocabulary:
        console.print(words_table(report, report.vocabulary, data.max_tokens), soft_wrap=False)
        for line in words_lines(report, report.vocabulary, data):
            console.print(escape(line))
    if report.findings:
        console.print(findings_table(report.findings), soft_wrap=False)
    console.print(verdict(report.findings))
    if report.stops:
        return STOPS
    return WORTH_A_LOOK if report.findings else WELL


def sizes_of(report: Report) -> DataSizes | None:
    """Returns the sizes that a network for the data has, if what decides them can be read."""
    widths = [image.feature_size for split in report.splits for image in split.images.values()]
    if not report.vocabulary or not widths:
        return None
    words, answers = len(report.vocabulary.words), len(report.vocabulary.answers)
    return DataSizes(feature_size=widths[0], vocabulary_size=words, answers=answers)


def splits_table(splits: Collection[SplitReport]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("split", "questions", "annotations", "images", "features", "regions (mean)", "width"):
        table.add_column(title, justify="left" if title == "split" else "right", no_wrap=True)
    for split in splits:
        regions = [image.regions for image in split.images.values()]
        widths = sorted({image.feature_size for image in split.images.values()})
        table.add_row(
            split.name,
            f"{len(split.questions):,}",
            f"{len(split.annotations):,}" if split.files.annotations else "–",
            f"{len(split.image_ids):,}",
            f"{len(split.images):,}",
            f"{min(regions)}–{max(regions)} ({sum(regions) / len(regions):.1f})" if regions else "–",
            ", ".join(map(str, widths)) or "–",
        )
    return table


def words_table(report: Report, vocabulary: Vocabulary, max_tokens: int) -> Table:
    """Returns a table of what the vocabulary knows of each split."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("split", "unknown words, %", "longest question", f"cut to {max_tokens}", "known answers, %"):
        table.add_column(title, justify="left" if title == "split" else "right", no_wrap=True)
    for split in report.splits:
        if not split.questions:
            continue
        questions = [tokenise(question["question"]) for question in split.questions]
        lengths = [len(question) for question in questions]
        unknown = sum(word not in vocabulary.word_index for question in questions for word in question)
        known = sum(normalise(each["multiple_choice_answer"]) in vocabulary.answer_index for each in split.annotations)
        table.add_row(
            split.name,
            f"{100 * unknown / max(1, sum(lengths)):.2f}",
            f"{max(lengths)}",
            f"{sum(length > max_tokens for length in lengths):,}",
            f"{100 * known / len(split.annotations):.1f}" if split.annotations else "–",
        )
    return table


def words_lines(report: Report, vocabulary: Vocabulary, data: DataSettings) -> list[str]:
    """Returns lines on where words, answers, vectors and boxes come from, and how many there are."""
    answers = data.vocabulary or data.answers or f"those to {data.min_answer_count} training questions or more"
    vectors = report.word_vectors or ("see below" if data.word_vectors else "none, learned from scratch")
    words = len(vocabulary.words) - len(FIRST_WORDS)
    people = [len(each["answers"]) for split in report.splits for each in split.annotations]
    of_people = f"{min(people)} to {max(people)}" if people else "none"
    return [
        f"vocabulary: {words:,} words, {len(vocabulary.answers):,} answers ({answers})",
        f"word vectors: {vectors}",
        f"answers to a question: {of_people}; measured is {VARIANTS[data.accuracy]}",
        f"features of pictures: made by {data.pictures.name}"
        if data.pictures
        else f"features in .npz files: x {data.form}; boxes: {BOXES[data.boxes]}",
    ]


def findings_table(findings: Collection[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    table.add_column("split")
    table.add_column("count", justify="right")
    table.add_column("what, and the first three")
    for finding in sorted(findings, key=lambda finding: not finding.stops):
        table.add_row(
            Text("stops", style="red") if finding.stops else Text("look", style="yellow"),
            Text(finding.split),
            f"{finding.count:,}",
            Text.assemble(finding.what, *((f"\n{example}", "dim") for example in finding.examples)),
        )
    return table


def verdict(findings: Collection[Finding]) -> str:
    stopping = sum(finding.stops for finding in findings)
    if stopping:
        return f"{stopping} of {len(findings)} findings stop a search or a training: to be mended first"
    if findings:
        return f"nothing stops a search or a training; {len(findings)} findings are worth a look"
    return "all is well"
