"""What the actions of ``launch.py`` do."""

import sys
from pathlib import Path

from rich.console import Console

from experiment.actions import search as whole
from experiment.actions.answer import answer as answer
from experiment.actions.check import check as check
from experiment.actions.export import best
from experiment.actions.export_onnx import export_onnx as export_onnx
from experiment.actions.pack import pack as pack
from experiment.actions.plan import plan as plan
from experiment.actions.profile import advice, kinds_table, parts_table
from experiment.actions.spaces import run as list_spaces
from experiment.actions.test import test as test
from experiment.actions.val import validate as validate
from experiment.architectures import read_architecture
from experiment.settings import read_settings
from experiment.start import without_collector
from trainer.data.splits import load_data
from trainer.processes import Processes
from trainer.step_profile import profile as profile_search
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
        measured = profile_search(data, settings.space_for(data.sizes), settings.search, folder)
    console.print(parts_table(measured, settings), kinds_table(measured), soft_wrap=False)
    for sentence in advice(measured, settings):
        console.print(f"- {sentence}", soft_wrap=False)
    console.print(f"every operation, for https://ui.perfetto.dev: {measured.trace}")


def spaces() -> None:
    list_spaces(console)


def refuse(error: Exception) -> int:
    """Says what is to be mended; the exit code for it."""
    print(error, file=sys.stderr)
    return 2
