"""The forms of question of the embedded data: what can be asked about a scene, and the true answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from trainer.data.digits.facts import FACTS, GROUPS
from trainer.data.digits.scenes import HEIGHT, WIDTH, Scene

SMALL, LARGE = 28, 38
"""A digit is called small if its side, in pixels, is smaller, and large if it is larger. Others are not asked about."""
MARGIN = 24
"""Two digits that are closer than this along an axis, in pixels, are not compared along it."""
RATIO = 1.4
"""Two sizes or distances are not compared if their ratio is smaller than this."""
MAX_COUNT = 4
"""The largest number that a counting question asks for."""

DIRECTIONS = {
    "left of": ("x", -1),
    "right of": ("x", 1),
    "above": ("y", -1),
    "below": ("y", 1),
}
"""Words for a direction → the coordinate, and the sign with which it grows in that direction."""
EXTREMES = {
    "leftmost": ("x", -1),
    "rightmost": ("x", 1),
    "smallest": ("side", -1),
    "largest": ("side", 1),
}
"""Words for an extreme → what is compared, and the sign with which it grows towards the extreme."""
Asked = Iterator[tuple[str, str]]
"""Questions with their true answers."""


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _furthest(scene: Scene, among: Sequence[int], coordinate: str, sign: int) -> int | None:
    """Returns the one of some digits that is furthest along a coordinate, or None if the first two are too close."""
    values = getattr(scene, coordinate)
    best, second = sorted(among, key=lambda i: -sign * values[i])[:2]
    if coordinate == "side":
        clear = max(values[best], values[second]) >= RATIO * min(values[best], values[second])
    else:
        clear = abs(values[best] - values[second]) >= MARGIN
    return best if clear else None


def _distance(scene: Scene, i: int, j: int) -> float:
    return float(np.hypot(scene.x[i] - scene.x[j], scene.y[i] - scene.y[j]))


def is_there(scene: Scene) -> Asked:
    """Asks whether a digit is there."""
    for digit in range(scene.palette):
        yield f"Is there a {digit}?", _yes(scene.count[digit] > 0)


def how_many(scene: Scene) -> Asked:
    """Asks how often a digit is there."""
    for digit in range(scene.palette):
        if scene.count[digit] <= MAX_COUNT:
            yield f"How many of the digits are a {digit}?", str(scene.count[digit])


def how_many_digits(scene: Scene) -> Asked:
    """Asks how many digits there are."""
    yield "How many digits are there?", str(len(scene.digits))


def which_corner(scene: Scene) -> Asked:
    """Asks in which corner a digit is."""
    for i in scene.single:
        if abs(scene.x[i] - WIDTH / 2) >= MARGIN and abs(scene.y[i] - HEIGHT / 2) >= MARGIN:
            row = "top" if scene.y[i] < HEIGHT / 2 else "bottom"
            column = "left" if scene.x[i] < WIDTH / 2 else "right"
            yield f"Which corner is the {scene.digits[i]} in?", f"{row} {column}"


def small_or_large(scene: Scene) -> Asked:
    """Asks whether a digit is small or large."""
    for i in scene.single:
        if not SMALL <= scene.side[i] <= LARGE:
            yield f"Is the {scene.digits[i]} small or large?", "small" if scene.side[i] < SMALL else "large"


def which_colour(scene: Scene) -> Asked:
    """Asks for the colour of a digit."""
    for i in scene.single:
        yield f"What colour is the {scene.digits[i]}?", scene.colour[i]


def _others_of_colour(scene: Scene, i: int) -> list[int]:
    return [j for j, colour in enumerate(scene.colour) if j != i and colour == scene.colour[i]]


def which_of_same_colour(scene: Scene) -> Asked:
    """Asks which other digit has the colour of a digit, where there is one."""
    for i in scene.single:
        others = _others_of_colour(scene, i)
        if len({scene.digits[j] for j in others}) == 1:
            yield f"Which digit has the same colour as the {scene.digits[i]}?", str(scene.digits[others[0]])


def is_another_of_colour(scene: Scene) -> Asked:
    """Asks whether any other digit has the colour of a digit."""
    for i in scene.single:
        yield f"Is there another digit of the colour of the {scene.digits[i]}?", _yes(bool(_others_of_colour(scene, i)))


def are_of_one_colour(scene: Scene) -> Asked:
    """Asks whether two digits have the same colour."""
    for i, j in combinations(scene.single, 2):
        question = f"Do the {scene.digits[i]} and the {scene.digits[j]} have the same colour?"
        yield question, _yes(scene.colour[i] == scene.colour[j])


def _extremes(scene: Scene) -> dict[str, int]:
    found = {word: _furthest(scene, range(len(scene.digits)), *along) for word, along in EXTREMES.items()}
    return {word: i for word, i in found.items() if i is not None}


def which_extreme(scene: Scene) -> Asked:
    """Asks which digit is the leftmost, the largest and so on."""
    for word, i in _extremes(scene).items():
        yield f"Which digit is the {word}?", str(scene.digits[i])


def is_another(scene: Scene) -> Asked:
    """Asks whether the digit at an extreme is there once more."""
    for word, i in _extremes(scene).items():
        yield f"Is there another digit like the {word}?", _yes(scene.count[scene.digits[i]] > 1)


def are_same(scene: Scene) -> Asked:
    """Asks whether two extremes are the same digit."""
    for (a, i), (b, j) in combinations(_extremes(scene).items(), 2):
        if i != j:
            yield f"Are the {a} and the {b} the same digit?", _yes(scene.digits[i] == scene.digits[j])


def more_often(scene: Scene) -> Asked:
    """Asks which of two digits is there more often. Both are there, and their counts differ by one: the presence of one
    of them does not give the answer away."""
    for a in scene.count:
        for b in scene.count:
            if abs(scene.count[a] - scene.count[b]) == 1:
                yield f"Does the {a} appear more often than the {b}?", _yes(scene.count[a] > scene.count[b])


def is_beside(scene: Scene) -> Asked:
    """Asks whether one digit is in a direction of another."""
    for a in scene.single:
        for b in scene.single:
            for words, (coordinate, sign) in DIRECTIONS.items():
                difference = sign * (getattr(scene, coordinate)[a] - getattr(scene, coordinate)[b])
                # They are not far apart: otherwise a digit near the rim would give the answer away.
                if MARGIN <= abs(difference) <= HEIGHT / 3:
                    yield f"Is the {scene.digits[a]} {words} the {scene.digits[b]}?", _yes(difference > 0)


def is_larger(scene: Scene) -> Asked:
    """Asks whether one digit is larger than another."""
    for a in scene.single:
        for b in scene.single:
            if RATIO <= max(scene.side[a], scene.side[b]) / min(scene.side[a], scene.side[b]) <= 2:
                question = f"Is the {scene.digits[a]} larger than the {scene.digits[b]}?"
                yield question, _yes(scene.side[a] > scene.side[b])


def how_many_beside(scene: Scene) -> Asked:
    """Asks how many digits are in a direction of another."""
    for i in scene.single:
        for words, (coordinate, sign) in DIRECTIONS.items():
            values = getattr(scene, coordinate)
            differences = [sign * (value - values[i]) for j, value in enumerate(values) if j != i]
            if min(map(abs, differences)) >= MARGIN:
                number = sum(difference > 0 for difference in differences)
                if number <= MAX_COUNT:
                    yield f"How many digits are {words} the {scene.digits[i]}?", str(number)


def which_extreme_beside(scene: Scene) -> Asked:
    """Asks only where the direction matters: where the largest (smallest) digit of all is a wrong answer."""
    for i in scene.single:
        for words, (coordinate, sign) in DIRECTIONS.items():
            values = getattr(scene, coordinate)
            if any(abs(value - values[i]) < MARGIN for j, value in enumerate(values) if j != i):
                continue
            beside = [j for j, value in enumerate(values) if sign * (value - values[i]) > 0]
            if len(beside) < 2:
                continue
            for word in ("largest", "smallest"):
                best = _furthest(scene, beside, *EXTREMES[word])
                rest = [j for j in range(len(scene.digits)) if j != i]
                if best is not None and best != max(rest, key=lambda j: EXTREMES[word][1] * scene.side[j]):
                    yield f"Which is the {word} digit {words} the {scene.digits[i]}?", str(scene.digits[best])


def _nearest(scene: Scene, i: int) -> int | None:
    """Returns the digit that is nearest to one, or None if the first two are about equally far."""
    near, second = sorted((_distance(scene, i, j), j) for j in range(len(scene.digits)) if j != i)[:2]
    return near[1] if second[0] >= RATIO * near[0] else None


def which_nearest(scene: Scene) -> Asked:
    """Asks which digit is nearest to another."""
    for i in scene.single:
        if (near := _nearest(scene, i)) is not None:
            yield f"Which digit is nearest to the {scene.digits[i]}?", str(scene.digits[near])


def which_colour_nearest(scene: Scene) -> Asked:
    """Asks for the colour of the digit that is nearest to another."""
    for i in scene.single:
        if (near := _nearest(scene, i)) is not None:
            yield f"What colour is the digit nearest to the {scene.digits[i]}?", scene.colour[near]


def is_nearer(scene: Scene) -> Asked:
    """Asks which of two digits is nearer to a third."""
    for a in scene.single:
        for b in scene.single:
            for c in scene.single:
                if len({a, b, c}) == 3:
                    to_b, to_c = _distance(scene, a, b), _distance(scene, a, c)
                    if max(to_b, to_c) >= 1.3 * min(to_b, to_c):
                        a_, b_, c_ = scene.digits[a], scene.digits[b], scene.digits[c]
                        yield f"Is the {a_} nearer to the {b_} than to the {c_}?", _yes(to_b < to_c)


def which_group(scene: Scene) -> Asked:
    """Asks for a fact about a digit: in which team, club and so on one of its colour is, on its half of the canvas."""
    for i in scene.single:
        if abs(scene.x[i] - WIDTH / 2) >= MARGIN:
            half = "left" if scene.x[i] < WIDTH / 2 else "right"
            digit, colour = scene.digits[i], scene.colour[i]
            for group in GROUPS:
                yield f"Which {group} is the {digit} in?", FACTS[group, digit, colour, half]


@dataclass(frozen=True)
class Form:
    """A form of question."""

    name: str
    """Its name, which is the `question_type` of its annotations."""
    questions: Callable[[Scene], Asked]
    """Yields every question of this form that can be asked about a scene, with its true answer."""
    answer_type: Literal["yes/no", "number", "other"]
    """The type of its answers, as in VQA."""


FORMS = {
    form.name: form
    for form in (
        Form("is there", is_there, "yes/no"),
        Form("how many of the digits", how_many, "number"),
        Form("how many digits", how_many_digits, "number"),
        Form("which corner", which_corner, "other"),
        Form("small or large", small_or_large, "other"),
        Form("which digit is the", which_extreme, "other"),
        Form("is another", is_another, "yes/no"),
        Form("are same", are_same, "yes/no"),
        Form("which colour", which_colour, "other"),
        Form("which of the same colour", which_of_same_colour, "other"),
        Form("is another of the colour", is_another_of_colour, "yes/no"),
        Form("are of one colour", are_of_one_colour, "yes/no"),
        Form("more often", more_often, "yes/no"),
        Form("is beside", is_beside, "yes/no"),
        Form("is larger", is_larger, "yes/no"),
        Form("how many beside", how_many_beside, "number"),
        Form("which largest beside", which_extreme_beside, "other"),
        Form("which nearest", which_nearest, "other"),
        Form("which colour nearest", which_colour_nearest, "other"),
        Form("is nearer", is_nearer, "yes/no"),
        Form("which group", which_group, "other"),
    )
}
