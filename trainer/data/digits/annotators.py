"""Ten simulated annotators, who answer the questions of the embedded data and err now and then."""

import numpy as np

from trainer.data.digits.forms import Form

ERROR_RATE = 0.04
"""How often an annotator is wrong, and how often one uses another word."""
WORDS = dict(enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]))
LOOK_ALIKE = {0: 6, 1: 7, 2: 7, 3: 8, 4: 9, 5: 6, 6: 5, 7: 1, 8: 3, 9: 4}
"""The digit with which each digit is confused."""
OTHER_WORDS = {
    "yes": ("yeah", "no"),
    "no": ("nope", "yes"),
    "small": ("little", "large"),
    "large": ("big", "small"),
    "red": ("crimson", "white"),
    "green": ("lime", "blue"),
    "blue": ("navy", "green"),
    "white": ("pale", "red"),
    "top left": ("upper left", "top right"),
    "top right": ("upper right", "top left"),
    "bottom left": ("lower left", "bottom right"),
    "bottom right": ("lower right", "bottom left"),
    "lions": ("lion", "bears"),
    "bears": ("bear", "eagles"),
    "eagles": ("eagle", "sharks"),
    "sharks": ("shark", "wolves"),
    "wolves": ("wolf", "lions"),
}
"""What some annotators say instead of an answer, and what those say who are wrong."""


def annotate(form: Form, answer: str, rng: np.random.Generator) -> list[str]:
    """Returns ten answers, most of them true. Annotators miscount by one, confuse digits that look alike, and use other
    words."""
    while True:
        given = []
        for wrong, other, up in rng.random((10, 3)):
            if answer in OTHER_WORDS:
                synonym, mistake = OTHER_WORDS[answer]
                given.append(mistake if wrong < ERROR_RATE else synonym if other < ERROR_RATE else answer)
                continue
            number = int(answer)
            if wrong < ERROR_RATE and form.answer_type == "number":
                number = number + 1 if up < 0.5 or number == 0 else number - 1
            elif wrong < ERROR_RATE:
                number = LOOK_ALIKE[number]
            given.append(WORDS[number] if other < ERROR_RATE and number in WORDS else str(number))
        if sum(one in (answer, WORDS.get(int(answer)) if answer.isdigit() else answer) for one in given) > 5:
            return given
