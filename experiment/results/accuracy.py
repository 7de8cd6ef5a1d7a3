"""How the accuracy of a network is shown."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainer.data.answers import AccuracyVariant
from trainer.data.questions import UNTYPED
from trainer.evaluation.vqa_accuracy import Accuracy

VARIANTS = {
    "official": "the official accuracy",
    "mcan": "the accuracy as mcan-vqa's evaluator has it",
    "agreement": "the agreement with any number of people",
}
TITLES = {"official": "accuracy, %", "mcan": "accuracy of mcan-vqa, %", "agreement": "agreement, %"}
"""What each is called above its figures."""


def show(console: Console, accuracy: Accuracy, variant: AccuracyVariant, questions: Path) -> None:
    """Prints an accuracy: overall, by answer type, and by question type.

    Args:
        console: Where it is printed.
        accuracy: What is printed.
        variant: The form of the accuracy.
        questions: The file of the questions that were answered.
    """
    if accuracy.per_question_type.keys() != {UNTYPED}:
        table = Table("question type", TITLES[variant])
        table.columns[1].justify = "right"
        for name, value in accuracy.per_question_type.items():
            table.add_row(name, f"{value:.2f}")
        console.print(table, soft_wrap=False)
    said = f"{VARIANTS[variant]} on {questions}: {accuracy.overall:.2f} %"
    if accuracy.per_answer_type.keys() != {UNTYPED}:
        said += f" ({', '.join(f'{name} {value:.2f}' for name, value in accuracy.per_answer_type.items())})"
    console.print(said, markup=False)
