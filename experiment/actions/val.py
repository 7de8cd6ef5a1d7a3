"""``launch.py --val``: the accuracy of a checkpoint on the validation split."""

from pathlib import Path

from rich.console import Console

from experiment.networks import load_network
from experiment.results.accuracy import show
from experiment.settings import read_settings
from model_space.errors import InputError
from trainer.data.splits import load_split, make_data
from trainer.evaluation.evaluate import evaluate


def run(console: Console, checkpoint: Path, *, settings: Path, architecture: Path | None = None) -> None:
    """Evaluates a checkpoint and prints its accuracy.

    Args:
        console: Where the accuracy is printed.
        checkpoint: The network that is evaluated: a checkpoint or a model folder.
        settings: Settings file that names the validation split.
        architecture: The architecture of a published checkpoint, if not in the settings.

    Raises:
        InputError: The split has no annotations; the checkpoint is wrong, or does not fit the data.
    """
    read = read_settings(settings)
    if read.data.val.annotations is None:
        raise InputError(f"{settings}: data.val.annotations is missing: there is nothing to compare answers with")
    loaded = load_network(console, checkpoint, read, architecture)
    data = loaded.data
    make_data(data)
    split = load_split(data, data.val, loaded.vocabulary)
    loaded.check_features(split.feature_size, split.extractor, str(data.val.features))
    show(console, evaluate(loaded.network, split, data.accuracy), data.accuracy, data.val.questions)
