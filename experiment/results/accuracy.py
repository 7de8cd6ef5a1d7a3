"""How the accuracy of a network is shown."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainer.data.answers import AccuracyVariant
from trainer.evaluation.vqa_accuracy import Accuracy

VARIANTS = {"official": "the official accuracy", "mcan": "the accuracy as mcan-vqa's evaluator has it"}


def show(console: Console, accuracy: Accuracy, variant: AccuracyVariant, questions: Path) -> None:
    """Prints an accuracy: overall, by answer type, and by question type.

    Args:
        console: Where it is printed.
        accuracy: What is printed.
        variant: The form of the accuracy.
        questions: The file of the questions that were answered.
    """
    types = ", ".join(f"{name} {value:.2f}" for name, value in accuracy.per_answer_type.items())
    table = Table("question type", "accuracy, %")
    table.columns[1].justify = "right"
    for name, value in accuracy.per_question_type.items():
        table.add_row(name, f"{value:.2f}")
    console.print(table, soft_wrap=False)
    console.print(f"{VARIANTS[variant]} on {questions}: {accuracy.overall:.2f} % ({types})", markup=False)
