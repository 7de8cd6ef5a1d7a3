"""What the embedded data shows and asks, and how often."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from trainer.data.digits.forms import FORMS, Form
from trainer.data.digits.scenes import Scene


@dataclass(frozen=True)
class Mix:
    """What is shown and asked, and how often."""

    kinds: int
    """The digits that are shown are 0 to kinds - 1."""
    crowding: float
    """How many scenes have n + 1 digits for each scene that has n."""
    forms: dict[str, float]
    """The share of each form of question, by its name, relative to the others."""


# Few kinds, few regions and few forms let learning take off early. Half of the questions are about one region. A
# third compare two, which a network without self-attention over regions does not learn. The others ask for a neighbour,
# whom a network finds that sees how boxes lie to each other.
MIXES = {
    "quick": Mix(
        kinds=5,
        crowding=0.65,
        forms={
            "is there": 2,
            "which colour": 1,
            "are of one colour": 2,
            "which colour nearest": 1,
        },
    ),
    # As `quick`, and facts, which ask more of memory: a network without feed-forward knows fewer of them.
    "facts": Mix(
        kinds=5,
        crowding=0.65,
        forms={
            "is there": 1,
            "which group": 3,
            "are of one colour": 3,
            "which colour nearest": 1,
        },
    ),
    "hard": Mix(kinds=10, crowding=0.85, forms={name: 1 for name in FORMS if name != "which group"}),
}


class Asker:
    """Samples questions about one scene after another so that, in each form, every answer comes about equally often.

    Args:
        mix: Which forms are asked, and how often.
        rng: The source of random numbers.
    """

    def __init__(self, mix: Mix, rng: np.random.Generator):
        self.mix = mix
        self.rng = rng
        # How often each form, each answer of a form, and each question with its answer has been asked.
        self.of_form: Counter[str] = Counter()
        self.of_answer: Counter[tuple[str, str]] = Counter()
        self.of_question: Counter[tuple[str, str]] = Counter()

    def __call__(self, scene: Scene, n: int) -> list[tuple[Form, str, str]]:
        """Returns n different questions about a scene, or all if it has fewer, as form, question and true answer."""
        possible = {name: list(FORMS[name].questions(scene)) for name in self.mix.forms}
        asked: list[tuple[Form, str, str]] = []
        while len(asked) < n and (names := [name for name in possible if possible[name]]):
            # Takes the form that is furthest behind its share, and of it the answer, then the question, asked least.
            name = min(names, key=lambda name: self.of_form[name] / self.mix.forms[name])
            ties = self.rng.random(len(possible[name]))
            rank = [
                (self.of_answer[name, answer], self.of_question[question, answer], tie)
                for (question, answer), tie in zip(possible[name], ties, strict=True)
            ]
            question, answer = possible[name].pop(rank.index(min(rank)))
            self.of_form[name] += 1
            self.of_answer[name, answer] += 1
            self.of_question[question, answer] += 1
            asked.append((FORMS[name], question, answer))
        return asked
