"""What the actions of ``launch.py`` do."""

import sys
from pathlib import Path

from rich.console import Console

from experiment import whole
from experiment.accuracy import validate as validate
from experiment.answer import answer as answer
from experiment.architectures import read_architecture
from experiment.check import check as check
from experiment.export import best
from experiment.onnx_export import export_onnx as export_onnx
from experiment.pack import pack as pack
from experiment.plan import plan as plan
from experiment.profile import advice, kinds_table, parts_table
from experiment.settings import read_settings
from experiment.spaces import ROWS
from experiment.spaces import table as spaces_table
from experiment.start import without_collector
from experiment.test import test as test
from trainer.data.splits import load_data
from trainer.processes import Processes
from trainer.profile import profile as profile_search
from trainer.train import train as train_network

console = Console(highlight=False, soft_wrap=True)  # a path stays whole


def search(config: Path, port: int | None) -> None:
    whole.run(config, port, console)


def export(config: Path, file: Path, experiment: str | None) -> None:
    working_directory = config.parent / whole.read_config(config)["experimentWorkingDirectory"]
    whole.write_export(best(working_directory, experiment), file, console)


def train(source: Path, settings_file: Path, folder: Path) -> None:
    settings = read_settings(settings_file)
    architecture = read_architecture(source, settings)
    with without_collector():
        data = load_data(settings.data)
    first = not Processes.of_torchrun().rank
    if first:
        console.print(f"word vectors: {data.word_vectors or 'none, learned from scratch'}", markup=False)
    checkpoint = train_network(data, architecture, settings.train, folder, progress_bar=True)
    if not first:
        return  # the first process says what came of it
    console.print(f"checkpoint: {checkpoint}", markup=False)
    validate(checkpoint, settings_file, None, console)


def profile(settings_file: Path, folder: Path) -> None:
    settings = read_settings(settings_file)
    data = load_data(settings.data)
    with console.status("the first steps of the search"):
        measured = profile_search(data, settings.fields(data.sizes), settings.search, folder)
    console.print(parts_table(measured, settings), kinds_table(measured), soft_wrap=False)
    for sentence in advice(measured, settings):
        console.print(f"- {sentence}", soft_wrap=False)
    console.print(f"every operation, for https://ui.perfetto.dev: {measured.trace}")


def spaces() -> None:
    with console.status("counting"):
        table = spaces_table(ROWS)
    console.print(table, soft_wrap=False)


def refuse(error: Exception) -> int:
    """Says what is to be mended; the exit code for it."""
    print(error, file=sys.stderr)
    return 2
