"""What the actions of ``launch.py`` do."""

import sys
from pathlib import Path

from rich.console import Console

from experiment import whole
from experiment.export import best
from experiment.settings import read_settings
from model_space.architecture import Architecture
from trainer.data.splits import load_data, load_split, make_data
from trainer.evaluate import evaluate
from trainer.train import load_trained
from trainer.train import train as train_network

console = Console(highlight=False, soft_wrap=True)  # a path stays whole


def search(config: Path, port: int | None) -> None:
    whole.run(config, port, console)


def export(config: Path, file: Path, experiment: str | None) -> None:
    working_directory = config.parent / whole.read_config(config)["experimentWorkingDirectory"]
    whole.write_export(best(working_directory, experiment), file, console)


def train(file: Path, settings_file: Path, folder: Path) -> None:
    architecture, settings = Architecture.load(file), read_settings(settings_file)
    checkpoint = train_network(load_data(settings.data), architecture, settings.train, folder, progress_bar=True)
    console.print(f"checkpoint: {checkpoint}")
    validate(checkpoint, settings_file)


def validate(checkpoint: Path, settings_file: Path) -> None:
    data = read_settings(settings_file).data
    make_data(data)
    network, vocabulary, _ = load_trained(checkpoint)
    accuracy = evaluate(network, load_split(data, data.val, vocabulary))
    types = ", ".join(f"{name} {value:.2f}" for name, value in accuracy.per_answer_type.items())
    console.print(f"accuracy on {data.val.questions}: {accuracy.overall:.2f} % ({types})")


def refuse(error: Exception) -> int:
    """Says what is to be mended; the exit code for it."""
    print(error, file=sys.stderr)
    return 2
