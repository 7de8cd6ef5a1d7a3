"""``launch.py --train``: trains the network of an architecture and evaluates it."""

from pathlib import Path

from rich.console import Console

from experiment.actions import val
from experiment.architectures import read_architecture
from experiment.settings import read_settings
from experiment.start import without_collector
from trainer.callbacks.curve import Epoch
from trainer.data.splits import load_data
from trainer.processes import Processes
from trainer.train import train


def run(console: Console, source: Path, *, settings: Path, folder: Path | None = None) -> None:
    """Trains from new weights, or resumes the training of a folder; prints the accuracy.

    Args:
        console: Where results are printed.
        source: The architecture, as :func:`~experiment.architectures.read_architecture` takes it.
        settings: Settings file of the training.
        folder: Where checkpoints go; None for ``runs/train/NAME``, with the name of the architecture.

    Raises:
        InputError: The architecture, the settings or the data are wrong, or the folder holds another run.
    """
    read = read_settings(settings)
    architecture = read_architecture(source, read)
    with without_collector():
        data = load_data(read.data)
    first = not Processes.of_torchrun().rank
    if first:
        console.print(f"word vectors: {data.word_vectors or 'none, learned from scratch'}", markup=False)
    folder = folder or Path("runs/train") / source.stem

    def say(epoch: Epoch) -> None:
        if not console.is_terminal:  # a bar that is written to a file would be hundreds of lines an epoch
            accuracy, loss = epoch["accuracy"], epoch["loss"]
            console.print(f"epoch {epoch['epoch']} of {epoch['epochs']}: loss {loss:.3f}, validation {accuracy:.1f} %")

    checkpoint = train(data, architecture, read.train, folder, say, progress_bar=console.is_terminal)
    if not first:
        return  # the first process says what came of it
    console.print(f"checkpoint: {checkpoint}", markup=False)
    val.run(console, checkpoint, settings=settings)
