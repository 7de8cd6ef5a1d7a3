"""How the accuracy of a network is shown, and that of a checkpoint on the validation split."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiment.networks import check_width, load_network
from experiment.settings import read_settings
from model_space.errors import InputError
from trainer.data.answers import AccuracyVariant
from trainer.data.splits import load_split, make_data
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.vqa_accuracy import Accuracy

VARIANTS = {"official": "the official accuracy", "mcan": "the accuracy as mcan-vqa's evaluator has it"}


def show(accuracy: Accuracy, variant: AccuracyVariant, questions: Path, console: Console) -> None:
    """Prints the accuracy overall, per answer type, and per question type."""
    types = ", ".join(f"{name} {value:.2f}" for name, value in accuracy.per_answer_type.items())
    table = Table("question type", "accuracy, %")
    table.columns[1].justify = "right"
    for name, value in accuracy.per_question_type.items():
        table.add_row(name, f"{value:.2f}")
    console.print(table, soft_wrap=False)
    console.print(f"{VARIANTS[variant]} on {questions}: {accuracy.overall:.2f} % ({types})", markup=False)


def validate(checkpoint: Path, settings_file: Path, source: Path | None, console: Console) -> None:
    """The accuracy of a checkpoint on the validation split; ``source`` is the architecture of a published one.

    Raises:
        InputError: the split has no annotations; the checkpoint is wrong, or does not fit the data.
    """
    settings = read_settings(settings_file)
    data = settings.data
    if data.val.annotations is None:
        raise InputError(f"{settings_file}: data.val.annotations is missing: there is nothing to compare answers with")
    network, vocabulary = load_network(checkpoint, settings, source)
    make_data(data)
    split = load_split(data, data.val, vocabulary)
    check_width(network, split.feature_size, checkpoint, str(data.val.features))
    show(evaluate(network, split, data.accuracy), data.accuracy, data.val.questions, console)
