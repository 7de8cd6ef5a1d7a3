"""``launch.py --export-model``: a trained network as a folder that can be given away, with its model card."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiment.networks import network_of
from experiment.results import drawing
from experiment.results.accuracy import VARIANTS
from experiment.results.card import PICTURE, Score, model_card
from experiment.results.comparison import BY_QUESTION, RESULT
from experiment.settings import read_settings
from model_space.errors import InputError
from model_space.files import read_json, refuse_used, write_text, write_whole_folder
from trainer.callbacks.checkpoint import load_checkpoint
from trainer.callbacks.curve import Curve
from trainer.callbacks.resume import Resume
from trainer.model_folder import ModelFolder, Reads, write_model
from trainer.train import EXTRACTOR

CARD = "README.md"


def run(
    console: Console, checkpoint_and_folder: list[Path], *, settings: Path, architecture: Path | None = None
) -> None:
    """Writes the folder of a network, whole or not at all.

    It holds the weights, the architecture with its picture, words and answers, and the model card.

    Args:
        console: Where it is said what was written.
        checkpoint_and_folder: The network, and the folder, which is not there yet or is empty.
        settings: Settings file, for a checkpoint that does not say how much it reads: a published or an old one.
        architecture: The architecture of a published checkpoint, if not in the settings.

    Raises:
        InputError: The checkpoint is wrong, or the folder holds something or cannot be written.
    """
    checkpoint, folder = checkpoint_and_folder
    refuse_used(folder)
    if checkpoint.is_dir():
        raise InputError(f"{checkpoint}: is a folder; expected a checkpoint")
    read = read_settings(settings)
    stored = load_checkpoint(checkpoint)
    network, vocabulary, found = network_of(stored, checkpoint, read, architecture)
    trained = stored.get("trained")
    reading = trained["data"] if trained else read.data.model_dump()
    extractor = stored.get(EXTRACTOR)
    reads = Reads(max_tokens=reading["max_tokens"], max_regions=reading["max_regions"], extractor=extractor)
    if not trained:
        console.print(
            f"{checkpoint}: does not say how it was trained; it reads {reads.max_tokens} words and "
            f"{reads.max_regions} regions by {settings}",
            markup=False,
        )
    content = ModelFolder(network, vocabulary, found, reads)
    scores = [*validation_score(stored), *comparison_score(checkpoint, trained)]
    with write_whole_folder(folder) as partial:
        write_model(partial, content)
        drawing.save_svg(found, partial / PICTURE)
        write_text(partial / CARD, model_card(folder.resolve().name, content, trained, scores))
    for score in scores:
        console.print(f"{score.metric}, {score.split}: {score.value:.1f} %", markup=False)
    if not scores:
        console.print("no accuracy of it is recorded, and the model card says so")
    console.print(f"network: {folder}, its model card: {folder / CARD}", markup=False)


def validation_score(stored: dict[str, Any]) -> list[Score]:
    """Returns the accuracy on the validation split that a checkpoint holds of its own weights, if it does."""
    curve = stored.get("callbacks", {}).get(Curve.__qualname__, {}).get("epochs")
    # Within an epoch, the last point of the curve is of the weights at its beginning.
    if not curve or stored[Resume.KEY]["place"][1]:
        return []
    questions = stored["trained"]["data"]["val"]["questions"] if "trained" in stored else None
    return [Score("accuracy by soft targets", "validation", curve[-1]["accuracy"], questions)]


def comparison_score(checkpoint: Path, trained: dict[str, Any] | None) -> list[Score]:
    """Returns the accuracy that the comparison of a search measured of a checkpoint, if it is one of that.

    Raises:
        InputError: What the comparison wrote beside the checkpoint is broken.
    """
    if not (checkpoint.parent / RESULT).exists():
        return []
    result = read_json(checkpoint.parent / RESULT, "the result of a comparison")
    data = trained["data"] if trained else None
    try:
        score = Score(
            f"{VARIANTS[data['accuracy']] if data else 'the accuracy of the settings'}, in the comparison",
            data["final"] if data else "test or validation",
            float(result["overall"]),
            len(np.load(checkpoint.parent / BY_QUESTION, allow_pickle=False)),
            {str(kind): float(value) for kind, value in result["per_answer_type"].items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError):
        raise InputError(f"{checkpoint.parent}: {RESULT} or {BY_QUESTION}: not what a comparison writes") from None
    return [score]
