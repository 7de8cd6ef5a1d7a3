"""What the actions of ``launch.py`` do."""

import sys
from pathlib import Path

from rich.console import Console

from experiment import whole
from experiment.architectures import architecture_of, read_architecture
from experiment.export import best
from experiment.profile import advice, kinds_table, parts_table
from experiment.settings import read_settings
from experiment.spaces import ROWS
from experiment.spaces import table as spaces_table
from model_space.errors import InputError
from trainer.callbacks import load_checkpoint
from trainer.data.splits import load_data, load_split, load_vocabulary, make_data
from trainer.evaluate import evaluate
from trainer.profile import profile as profile_search
from trainer.published import is_published, published_network
from trainer.train import train as train_network
from trainer.train import trained_network

console = Console(highlight=False, soft_wrap=True)  # a path stays whole


def search(config: Path, port: int | None) -> None:
    whole.run(config, port, console)


def export(config: Path, file: Path, experiment: str | None) -> None:
    working_directory = config.parent / whole.read_config(config)["experimentWorkingDirectory"]
    whole.write_export(best(working_directory, experiment), file, console)


def train(source: Path, settings_file: Path, folder: Path) -> None:
    settings = read_settings(settings_file)
    architecture = read_architecture(source, settings)
    checkpoint = train_network(load_data(settings.data), architecture, settings.train, folder, progress_bar=True)
    console.print(f"checkpoint: {checkpoint}")
    validate(checkpoint, settings_file)


def validate(checkpoint: Path, settings_file: Path, source: Path | None = None) -> None:
    """The accuracy of a checkpoint, also of a published one, which holds neither its architecture nor a vocabulary."""
    settings = read_settings(settings_file)
    data = settings.data
    content = load_checkpoint(checkpoint)
    if is_published(content):
        architecture = read_architecture(source, settings) if source else architecture_of(settings)
        make_data(data)
        split = load_split(data, data.val, load_vocabulary(data))
        network = published_network(content, architecture.for_data(split.sizes), str(checkpoint))
    elif source:
        raise InputError(f"{checkpoint}: holds its architecture: --architecture is for published checkpoints")
    else:
        network, vocabulary, _ = trained_network(content, str(checkpoint))
        make_data(data)
        split = load_split(data, data.val, vocabulary)
    accuracy = evaluate(network, split)
    types = ", ".join(f"{name} {value:.2f}" for name, value in accuracy.per_answer_type.items())
    console.print(f"accuracy on {data.val.questions}: {accuracy.overall:.2f} % ({types})")


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
