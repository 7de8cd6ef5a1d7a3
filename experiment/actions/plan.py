"""``launch.py --plan``: what the settings will take on this machine, before hours are spent.

It tells parameters, memory, disk and time, what does not fit, and what to change. It needs no data: what is not there,
and is not made first as the embedded data is, is taken to be as VQA-v2 has it.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture
from model_space.sizes import NO_DATA, DataSizes
from trainer.cost import Shape, StepCost, measure, search_steps, training_steps
from trainer.data.features.npz import read_npz
from trainer.data.features.packed import open_packed
from trainer.data.features.paths import packed_path
from trainer.data.questions import read_questions
from trainer.data.settings import SplitSettings
from trainer.data.splits import make_data
from trainer.strategy import BiLevelSettings, SearchSettings
from trainer.train import TrainSettings

OFFICIAL = {
    "train2014": (443_757, 82_783),
    "val2014": (214_354, 40_504),
    "test-dev2015": (107_394, 36_807),
    "test2015": (447_793, 81_434),
    "VG_questions": (485_000, 108_077),
}
"""Part of a file's name → numbers of questions and images of VQA-v2 (https://visualqa.org/download.html), and, roughly,
of Visual Genome as mcan-vqa has it."""

ASSUMED = DataSizes(feature_size=2048, vocabulary_size=20_000, answers=3_129)
MEAN_REGIONS = 37
READING = 4_000
"""Bytes of a question with its ten answers while its files are read: those of Python's dictionaries."""
CHECKPOINT = 3 * 4
"""Bytes of a weight with its two moments."""

GB = 1e9


@dataclass(frozen=True)
class Split:
    name: str
    questions: int
    images: int
    counted: bool
    """Whether the numbers were counted in its files; else the files are not there."""
    unpacked: frozenset[Path]
    """Where those of its features are that are not packed yet."""


@dataclass(frozen=True)
class Need:
    """How much of memory or disk is needed, and how much there is, in bytes."""

    of: str
    needed: float
    there: float
    change: str
    """What helps if more is needed than there is."""

    @property
    def misfit(self) -> str | None:
        if self.needed <= self.there:
            return None
        return f"{self.of}: {self.needed / GB:.1f} GB needed, {self.there / GB:.1f} GB there: {self.change}"


def run(console: Console, settings: Path) -> int:
    """Measures some steps and prints what the search and the training of the settings will take.

    Args:
        console: Where tables are printed.
        settings: Settings file.

    Returns:
        The exit code: 1 where something does not fit, so that a script can tell.

    Raises:
        InputError: The settings are wrong, or a file of questions is; or nothing fits into the device.
    """
    read = read_settings(settings)
    data = read.data
    make_data(data)
    splits = {files: sized(files) for files in data.named_splits.values()}
    shape = Shape(sizes_of(read), data.max_tokens, data.max_regions, data.trim)
    space = read.space_for(NO_DATA)
    searched = bool(space.candidates())
    architecture = Architecture(space=space, choices=space.random_choices(read.train.seed) if searched else {})
    costs = {}
    with console.status("steps of the training"):
        part = part_of(read, "training")
        costs["training"] = measure(shape, part, training_steps(architecture, read.train))
    if searched:
        with console.status("steps of the search"):
            steps = search_steps(read.space_for(shape.sizes), read.search)
            costs["search"] = measure(shape, part_of(read, "search"), steps)
    questions = sum(splits[part].questions for part in data.train_parts)
    console.print(costs_table(read, costs, questions, splits[data.val].questions))
    console.print(splits_table(splits.values(), shape.sizes))
    console.print(f"On {device()}.")
    measured = costs["training"]
    console.print(
        f"From steps of {measured.small.questions} and {measured.large.questions} made-up questions, with "
        f"{shape.sizes.vocabulary_size:,} words, {shape.sizes.answers:,} answers and features "
        f"{shape.sizes.feature_size:,} wide."
    )
    found = needs(read, costs, splits, shape.sizes)
    console.print(needs_table(found))
    misfits = [f"does not fit: {need.misfit}" for need in found if need.misfit]
    for sentence in misfits or ["All of it fits."]:
        console.print(sentence)
    return 1 if misfits else 0


def sized(split: SplitSettings) -> Split:
    """Returns the numbers of questions and images of a split: counted, or the official ones of a file of its name."""
    path = split.questions
    unpacked = frozenset(each for each in split.feature_paths if not packed_path(each).is_file())
    if path.exists():
        questions = read_questions(path)
        images = {question["image_id"] for question in questions}
        return Split(short(path), len(questions), len(images), True, unpacked)
    known = next((numbers for name, numbers in OFFICIAL.items() if name in path.name), OFFICIAL["train2014"])
    return Split(short(path), *known, False, unpacked)


def short(path: Path) -> str:
    """Returns the name of a file of questions, without the words that all such names have."""
    return path.stem.removeprefix("v2_OpenEnded_mscoco_").removesuffix("_questions")


def sizes_of(settings: Settings) -> DataSizes:
    """Returns the sizes of the data, with the width of the features that are there, if any are."""
    for path in settings.data.val.feature_paths:
        if packed_path(path).is_file():
            width = open_packed(packed_path(path))[0].feature_size
        elif image := next(path.rglob("*.npz"), None):
            width = read_npz(image, form=settings.data.form).features.shape[1]
        else:
            continue
        return ASSUMED.model_copy(update={"feature_size": width})
    return ASSUMED


def costs_table(settings: Settings, costs: dict[str, StepCost], questions: int, validated: int) -> Table:
    """Returns a table with a column for the training, and one for the search if there is one."""
    columns = {name: rows(settings, name, cost, questions, validated) for name, cost in costs.items()}
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    for name in columns:
        of = settings.search.strategy if name == "search" else settings.space.name
        table.add_column(f"{name}, {of}", justify="right", no_wrap=True)
    for row in columns["training"]:
        table.add_row(row, *(column[row] for column in columns.values()))
    return table


def rows(settings: Settings, name: str, cost: StepCost, questions: int, validated: int) -> dict[str, str]:
    section = section_of(settings, name)
    parts = section.accumulate
    if isinstance(section, BiLevelSettings):
        questions = round(questions * min(section.architecture_share, 1 - section.architecture_share))
    steps = min(questions // section.batch_size, section.steps_per_epoch or questions)
    step = parts * cost.seconds(part_of(settings, name))
    validation = validated * cost.forward_seconds(cost.large.questions) / cost.large.questions
    return {
        "parameters": f"{cost.parameters / 1e6:,.1f} M",
        "checkpoint": f"{CHECKPOINT * cost.parameters / GB:.2f} GB",
        "questions a step": f"{section.batch_size}" + (f" in {parts} parts" if parts > 1 else ""),
        "a step": seconds(step),
        "steps an epoch": f"{steps:,}",
        "an epoch": seconds(steps * step),
        "its validation": seconds(validation),
        "epochs": f"{section.epochs}",
        "all of them": seconds(section.epochs * (steps * step + validation)),
    }


def section_of(settings: Settings, name: str) -> SearchSettings | TrainSettings:
    return settings.search if name == "search" else settings.train


def share_of(settings: Settings, name: str) -> int:
    """Returns the questions of a step on one device. On a CPU the processes of a search share one device."""
    devices = settings.search.processes if name == "search" and torch.cuda.is_available() else 1
    return max(1, section_of(settings, name).batch_size // devices)


def part_of(settings: Settings, name: str) -> int:
    """Returns the questions of a micro-batch on one device."""
    return max(1, share_of(settings, name) // section_of(settings, name).accumulate)


def splits_table(splits: Iterable[Split], sizes: DataSizes) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("questions of", no_wrap=True)
    for title in ("questions", "images", "packed", ""):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for split in splits:
        counts = f"{split.questions:,}", f"{split.images:,}", f"{packed(split, sizes) / GB:.1f} GB"
        table.add_row(split.name, *counts, "" if split.counted else " not there: as VQA-v2's")
    return table


def packed(split: Split, sizes: DataSizes) -> float:
    """Returns the bytes of a split's features in float16, with the mean number of regions of bottom-up features."""
    return split.images * MEAN_REGIONS * 2 * sizes.feature_size


def to_pack(splits: Iterable[Split], sizes: DataSizes) -> float:
    """Returns the bytes of all features that are not packed yet; those that several splits share are counted once."""
    total = 0.0
    counted: frozenset[Path] = frozenset()
    for split in sorted(splits, key=lambda split: len(split.unpacked)):  # Visual Genome's are those of two others
        if split.unpacked - counted:
            total += packed(split, sizes)
        counted |= split.unpacked
    return total


def needs(
    settings: Settings, costs: dict[str, StepCost], splits: dict[SplitSettings, Split], sizes: DataSizes
) -> list[Need]:
    """Returns the needs of memory and disk, as if all features were to be packed."""
    found = []
    for name, cost in costs.items():
        need = cost.bytes(part_of(settings, name))
        found.append(Need(f"memory, {name}", need, memory_of_device(), less_memory(settings, name, cost)))
    checkpoints = 2 * CHECKPOINT * sum(cost.parameters for cost in costs.values())
    folder = existing(settings.data.val.feature_paths[0])
    read = {*settings.data.train_parts, settings.data.val}
    return [
        *found,
        Need(
            "host memory, while questions are read",
            READING * sum(splits[files].questions for files in read),
            psutil.virtual_memory().available,
            "close other programs, or train on fewer parts (data.train)",
        ),
        Need(
            "disk, checkpoints while they are written",
            checkpoints,
            shutil.disk_usage(Path.cwd()).free,
            "free some, or give --folder on another disk",
        ),
        Need(
            "disk, features still to be packed",
            to_pack(splits.values(), sizes),
            shutil.disk_usage(folder).free,
            "train on the .npz files as they are, with data.workers",
        ),
    ]


def less_memory(settings: Settings, name: str, cost: StepCost) -> str:
    """Returns what to change so that a step fits."""
    section, share = section_of(settings, name), share_of(settings, name)
    sizes = [size for size in range(share, 0, -1) if cost.bytes(size) <= memory_of_device()]
    if not sizes:
        change = "not even one question fits; a smaller network.hidden"
    else:
        parts = next(share // size for size in sizes if share % size == 0)
        change = f"{'search' if name == 'search' else 'train'}.accumulate: {parts}, which is the same {name}"
    if not settings.data.trim:
        change += "; data.trim: true computes less padding"
    if torch.cuda.is_available() and section.precision == "32-true":
        change += f"; {'search' if name == 'search' else 'train'}.precision: bf16-mixed takes less"
    return change


def needs_table(found: list[Need]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("what it takes", no_wrap=True)
    for title in ("needed", "there is"):
        table.add_column(title, justify="right", no_wrap=True)
    for need in found:
        table.add_row(need.of, f"{need.needed / GB:.1f} GB", f"{need.there / GB:.1f} GB")
    return table


def existing(path: Path) -> Path:
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


def memory_of_device() -> int:
    """Returns the bytes that a run can have: all of the GPU's, or what is free of the host's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    return psutil.virtual_memory().available


def device() -> str:
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU, threads: {torch.get_num_threads()}"
    memory = psutil.virtual_memory()
    return f"{gpu}; host memory {memory.total / GB:.0f} GB, free {memory.available / GB:.0f} GB; cores {os.cpu_count()}"


def seconds(value: float) -> str:
    """Returns a duration in words that fit a table."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.0f} s"
    days, rest = divmod(timedelta(seconds=round(value)), timedelta(days=1))
    hours, minutes = divmod(rest // timedelta(minutes=1), 60)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min" if hours else f"{minutes} min"
