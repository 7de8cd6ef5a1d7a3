"""``launch.py --export``: writes the best architecture of an experiment."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiment.manager import records
from experiment.manager.configuration import read_configuration
from experiment.results import drawing
from experiment.results.best import best_architecture
from experiment.results.card import CARD, search_card
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.files import write_text


def run(console: Console, file: Path, *, config: Path, experiment: str | None = None) -> None:
    """Writes the best architecture of an experiment, its picture and a card of the search beside it, and prints it.

    Args:
        console: Where the architecture is printed.
        file: Where the architecture is written.
        config: Configuration of the experiment.
        experiment: Id of the experiment; None for the one that was started last.

    Raises:
        InputError: There is no such experiment, or no result yet; or a file cannot be written.
    """
    recorded = records.read(records.find(read_configuration(config).working_directory, experiment))
    write(console, best_architecture(recorded), recorded.trials, file)


def write(console: Console, architecture: Architecture, trials: Sequence[records.Trial], file: Path) -> None:
    """Writes an architecture's file, its picture and the card of its search, and prints it."""
    picture, card = file.with_suffix(".svg"), file.with_suffix(".md")
    if file in (picture, card):
        raise InputError(f"{file}: an architecture is JSON, and {file.suffix} is written beside it: expected .json")
    if card.exists() and not card.read_text(errors="replace").startswith(CARD):
        raise InputError(f"{card}: is no card of a search, and one would be written in its place: give another FILE")
    architecture.save(file)
    drawing.save_svg(architecture, picture)
    write_text(card, search_card(file.stem, architecture, trials))
    console.print(drawing.text(architecture), highlight=False)
    console.print(f"architecture: {file}, drawn in {picture}, its search: {card}", markup=False)


def best(working_directory: Path, experiment: str | None = None) -> Architecture:
    """Returns the best architecture of an experiment, which may run, be stopped, or have finished.

    Args:
        working_directory: The folder of the experiments.
        experiment: Id of the experiment; None for the one that was started last.

    Raises:
        InputError: There is no such experiment, or it has no such architecture.
    """
    return best_architecture(records.read(records.find(working_directory, experiment)))
