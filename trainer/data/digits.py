"""Embedded data: questions about scenes of handwritten digits, in the file form of VQA-v2.

The digits are scikit-learn's (1,797 images of 8 x 8 pixels, from the UCI "Optical Recognition of Handwritten
Digits" data). A scene places 3 to 10 of them, and some noise, on a canvas; every one of them is a region with a
box and a feature. Questions are drawn by form, their answers balanced within the form, and answered by ten
simulated annotators who err now and then.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from model_space.errors import InputError

FORMAT = 4  # of what generate() writes; goes up whenever the same settings give other bytes
STATED = "digits.json"  # says which settings a folder was made with; written last

WIDTH, HEIGHT = 320, 240  # of the canvas, in pixels
SIDES = (16, 52)  # smallest and largest side of a box, in pixels
SMALL, LARGE = 28, 38  # a digit is called small below, large above; between them nobody asks
MARGIN = 8  # two places closer than this along an axis, in pixels, are not compared
RATIO = 1.15  # nor two sizes (or distances) closer than this factor
MAX_COUNT = 4  # the largest number that a counting question asks for

# name on disk and share of the source digits, split by split
SPLITS = {"train": ("train2014", 0.6), "val": ("val2014", 0.2), "test": ("test2015", 0.2)}


class DigitsSettings(BaseModel):
    """What the embedded data is made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    """Where the data is, or is made."""
    mix: Literal["quick", "hard"] = "quick"
    """How often each form of question is asked: ``quick`` is learned in minutes, ``hard`` is for studies."""
    seed: int = Field(0, ge=0)
    train_scenes: int = Field(4000, ge=1)
    val_scenes: int = Field(600, ge=1)
    test_scenes: int = Field(800, ge=1)
    questions_per_scene: int = Field(12, ge=1, le=999)

    def stated(self) -> dict:
        """All that the bytes depend on, as it stands in ``digits.json``."""
        return {"format": FORMAT, **self.model_dump(exclude={"folder"})}


def split_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Returns the files of the embedded data in a folder: split → ``questions``, ``annotations`` and ``features``."""
    return {
        split: {
            "questions": folder / f"v2_OpenEnded_mscoco_{name}_questions.json",
            "annotations": folder / f"v2_mscoco_{name}_annotations.json",
            "features": folder / name,
        }
        for split, (name, _) in SPLITS.items()
    }


def generate(settings: DigitsSettings) -> Path:
    """Make the data in ``settings.folder``, unless it is there already; return the folder.

    The same settings give the same bytes. The folder appears whole or not at all. Each split has
    ``v2_OpenEnded_mscoco_<split>_questions.json``, ``v2_mscoco_<split>_annotations.json`` and
    ``<split>/COCO_<split>_<image id>.jpg.npz``, where <split> is train2014, val2014 or test2015, and the packed form of
    these, ``<split>.safetensors``.

    Raises InputError if the folder holds something else, or data made with other settings.
    """
    folder = settings.folder
    if _is_made(settings):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(unfinished, settings)
        unfinished.chmod(0o755)  # mkdtemp makes it private
        try:
            os.rename(unfinished, folder)
        except OSError:  # another process was faster
            if not _is_made(settings):
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _is_made(settings: DigitsSettings) -> bool:
    """Whether the folder holds the data of just these settings."""
    folder = settings.folder
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = dict(json.loads((folder / STATED).read_text()))
    except (OSError, ValueError, TypeError):
        raise InputError(
            f"{folder}: exists and is not embedded data (no readable {STATED}); give another folder"
        ) from None
    wanted = settings.stated()
    differ = [f"{key} {found.get(key)!r}, not {wanted[key]!r}" for key in wanted if found.get(key) != wanted[key]]
    if differ:
        raise InputError(
            f"{folder}: was made with {'; '.join(differ)}; delete the folder to make it anew, or give another"
        )
    return True


def _write(folder: Path, settings: DigitsSettings) -> None:
    # Not needed, and not loaded, where the data is there already.
    from sklearn.datasets import load_digits

    from trainer.data.packing.pack import pack

    images, labels = load_digits(return_X_y=True)
    sources = split_sources(labels, settings.seed)
    known = images[np.concatenate(sources["train"])]
    pixels = ((images - known.mean(0)) / np.maximum(known.std(0), 1)).astype(np.float32)

    image_id = 0
    for number, (split, (name, _)) in enumerate(SPLITS.items()):
        # A stream of random numbers of its own: the size of one split does not change the others.
        rng = np.random.default_rng([settings.seed, number])
        mix = MIXES[settings.mix]
        ask = Asker(mix, rng)
        (folder / name).mkdir()
        questions, annotations = [], []
        for _ in range(getattr(settings, f"{split}_scenes")):
            image_id += 1
            scene = draw_scene(sources[split][: mix.kinds], mix.crowding, rng)
            np.savez(
                folder / name / f"COCO_{name}_{image_id:012d}.jpg.npz",
                x=features(scene, pixels, mix.negatives, rng).T,
                bbox=scene.boxes.astype(np.float32),
                image_w=WIDTH,
                image_h=HEIGHT,
                source=scene.sources,
            )
            for place, (form, question, answer) in enumerate(ask(scene, settings.questions_per_scene)):
                question_id = 1000 * image_id + place
                questions.append({"image_id": image_id, "question": question, "question_id": question_id})
                annotations.append(
                    {
                        "question_type": form.name,
                        "multiple_choice_answer": answer,
                        "answers": [
                            {"answer": given, "answer_confidence": "yes", "answer_id": 1 + i}
                            for i, given in enumerate(annotate(form, answer, rng))
                        ],
                        "image_id": image_id,
                        "answer_type": form.answer_type,
                        "question_id": question_id,
                    }
                )
        pack(folder / name)  # a trial starts sooner: one file is mapped where thousands would be read
        about = {
            "info": {"description": "Questions about scenes of handwritten digits", "version": str(FORMAT)},
            "license": {"name": "CC BY 4.0 (the digits)", "url": "https://archive.ics.uci.edu/dataset/80"},
            "data_type": "digits",
            "data_subtype": name,
        }
        asked = {**about, "task_type": "Open-Ended", "questions": questions}
        (folder / f"v2_OpenEnded_mscoco_{name}_questions.json").write_text(json.dumps(asked))
        (folder / f"v2_mscoco_{name}_annotations.json").write_text(json.dumps({**about, "annotations": annotations}))
    (folder / STATED).write_text(json.dumps(settings.stated(), indent=2) + "\n")


def split_sources(labels: np.ndarray, seed: int) -> dict[str, list[np.ndarray]]:
    """Deal the source digits out to the splits: split -> kind -> indices into ``labels``, all disjoint."""
    rng = np.random.default_rng(seed)
    ends = np.cumsum([share for _, share in SPLITS.values()])[:-1]
    by_kind = []
    for kind in range(10):
        own = rng.permutation(np.flatnonzero(labels == kind))
        by_kind.append(np.split(own, np.round(ends * len(own)).astype(int)))
    return {split: [parts[i] for parts in by_kind] for i, split in enumerate(SPLITS)}


# ---------------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True)
class Scene:
    """Regions on the canvas: n digits and some clutter."""

    kinds: np.ndarray  # (N,) the digit 0 to 9, or -1 for clutter
    sources: np.ndarray  # (N,) the index of the source image, or -1 for clutter
    boxes: np.ndarray  # (N, 4) x1, y1, x2, y2 in pixels, no two overlapping
    palette: int  # the digits that may be asked for are 0 to palette - 1

    def __post_init__(self):
        # What the questions look at: the digits alone, as plain numbers.
        shown = self.kinds >= 0
        corners = self.boxes[shown]
        digits = self.kinds[shown].tolist()
        count = Counter(digits)
        for name, value in {
            "digits": digits,
            "x": ((corners[:, 0] + corners[:, 2]) / 2).tolist(),
            "y": ((corners[:, 1] + corners[:, 3]) / 2).tolist(),
            "side": (corners[:, 2] - corners[:, 0]).tolist(),
            "count": count,
            "single": [i for i, digit in enumerate(digits) if count[digit] == 1],
        }.items():
            object.__setattr__(self, name, value)


def draw_scene(sources: list[np.ndarray], crowding: float, rng: np.random.Generator) -> Scene:
    """Draw 3 to 10 digits, most kinds once and some up to four times, and at most one piece of clutter.

    ``sources``: kind -> the images of that kind, as indices. ``crowding``: how many scenes have one digit more,
    for each that has so many.
    """
    share = crowding ** np.arange(8)
    n = rng.choice(np.arange(3, 11), p=share / share.sum())
    times = rng.choice([1, 2, 3, 4], size=n, p=[0.6, 0.15, 0.125, 0.125])
    order = [rng.permutation(len(sources)) for _ in range(-(-n // len(sources)))]
    kinds = np.repeat(np.concatenate(order)[:n], times)[:n]
    clutter = np.full(rng.integers(0, 2), -1)
    order = rng.permutation(n + len(clutter))
    chosen = [sources[kind][rng.integers(len(sources[kind]))] for kind in kinds]
    return Scene(
        np.concatenate([kinds, clutter])[order],
        np.concatenate([chosen, clutter])[order],
        place_boxes(len(order), rng),
        len(sources),
    )


def place_boxes(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n squares that do not overlap, about half of them close to another: (n, 4) x1, y1, x2, y2, pixels."""
    sides = rng.integers(SIDES[0], SIDES[1] + 1, size=n)
    while True:
        boxes = np.zeros((n, 4), dtype=int)
        for i, side in enumerate(sides):
            corner = (rng.random((32, 2)) * (WIDTH - side + 1, HEIGHT - side + 1)).astype(int)
            tried = np.concatenate([corner, corner + side], axis=1)
            apart = (tried[:, None, :2] >= boxes[None, :i, 2:]) | (tried[:, None, 2:] <= boxes[None, :i, :2])
            free = np.flatnonzero(apart.any(-1).all(-1))
            if not len(free):
                break
            boxes[i] = tried[free[0]]
            if i and rng.random() < 0.5:
                # Of the free places the one nearest to another square's centre.
                gaps = (tried[free, None, :2] + side / 2) - (boxes[None, :i, :2] + sides[None, :i, None] / 2)
                boxes[i] = tried[free[np.hypot(*gaps.T).T.min(1).argmin()]]
        else:
            return boxes


def features(scene: Scene, pixels: np.ndarray, negatives: float, rng: np.random.Generator) -> np.ndarray:
    """Region features (N, 69): 64 standardised pixels (noise for clutter), then centre, sides and area of the box.

    A share of the digits, ``negatives``, is shown as a photographic negative: their pixels have the other sign, so that
    which digit it is is no linear function of the feature. The box is part of the feature since not every network
    looks at the boxes (MCAN does not).
    """
    noise = rng.standard_normal((len(scene.kinds), pixels.shape[1]), dtype=np.float32)
    looks = np.where(scene.kinds[:, None] >= 0, pixels[scene.sources], noise)
    looks *= np.where(rng.random(len(looks)) < negatives, -1, 1)[:, None]
    centre = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / (WIDTH, HEIGHT) - 1
    sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
    area = 2 * sides.prod(1, keepdims=True) / SIDES[1] ** 2 - 1
    box = np.concatenate([centre, 2 * (sides - SIDES[0]) / (SIDES[1] - SIDES[0]) - 1, area], axis=1)
    return np.concatenate([looks, BOX_GAIN * box], axis=1, dtype=np.float32)


BOX_GAIN = 2  # five numbers from -1 to 1 stand beside 64: a little louder, they are learned sooner


# ------------------------------------------------------------------------------------------- questions

DIRECTIONS = {  # words -> coordinate, and its sign
    "left of": ("x", -1),
    "right of": ("x", 1),
    "above": ("y", -1),
    "below": ("y", 1),
}
EXTREMES = {
    "leftmost": ("x", -1),
    "rightmost": ("x", 1),
    "smallest": ("side", -1),
    "largest": ("side", 1),
}
Asked = Iterator[tuple[str, str]]  # question, true answer


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _first(scene: Scene, among: list[int], coordinate: str, sign: int) -> int | None:
    """The one of ``among`` that is furthest along a coordinate, or None where the first two are too close."""
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
    for digit in range(scene.palette):
        yield f"Is there a {digit}?", _yes(scene.count[digit] > 0)


def how_many(scene: Scene) -> Asked:
    for digit in range(scene.palette):
        if scene.count[digit] <= MAX_COUNT:
            yield f"How many of the digits are a {digit}?", str(scene.count[digit])


def how_many_digits(scene: Scene) -> Asked:
    yield "How many digits are there?", str(len(scene.digits))


def which_corner(scene: Scene) -> Asked:
    for i in scene.single:
        if abs(scene.x[i] - WIDTH / 2) >= MARGIN and abs(scene.y[i] - HEIGHT / 2) >= MARGIN:
            row = "top" if scene.y[i] < HEIGHT / 2 else "bottom"
            column = "left" if scene.x[i] < WIDTH / 2 else "right"
            yield f"Which corner is the {scene.digits[i]} in?", f"{row} {column}"


def small_or_large(scene: Scene) -> Asked:
    for i in scene.single:
        if not SMALL <= scene.side[i] <= LARGE:
            yield f"Is the {scene.digits[i]} small or large?", "small" if scene.side[i] < SMALL else "large"


def _extremes(scene: Scene) -> dict[str, int]:
    found = {word: _first(scene, range(len(scene.digits)), *along) for word, along in EXTREMES.items()}
    return {word: i for word, i in found.items() if i is not None}


def which_extreme(scene: Scene) -> Asked:
    for word, i in _extremes(scene).items():
        yield f"Which digit is the {word}?", str(scene.digits[i])


def is_another(scene: Scene) -> Asked:
    for word, i in _extremes(scene).items():
        yield f"Is there another digit like the {word}?", _yes(scene.count[scene.digits[i]] > 1)


def are_same(scene: Scene) -> Asked:
    for (a, i), (b, j) in combinations(_extremes(scene).items(), 2):
        if i != j:
            yield f"Are the {a} and the {b} the same digit?", _yes(scene.digits[i] == scene.digits[j])


def more_often(scene: Scene) -> Asked:
    """Both are there, and differ by one: that one of them is there at all says nothing."""
    for a in scene.count:
        for b in scene.count:
            if abs(scene.count[a] - scene.count[b]) == 1:
                yield f"Does the {a} appear more often than the {b}?", _yes(scene.count[a] > scene.count[b])


def is_beside(scene: Scene) -> Asked:
    for a in scene.single:
        for b in scene.single:
            for words, (coordinate, sign) in DIRECTIONS.items():
                difference = sign * (getattr(scene, coordinate)[a] - getattr(scene, coordinate)[b])
                # Not far apart: a digit near the rim would answer for the two.
                if MARGIN <= abs(difference) <= HEIGHT / 3:
                    yield f"Is the {scene.digits[a]} {words} the {scene.digits[b]}?", _yes(difference > 0)


def is_larger(scene: Scene) -> Asked:
    for a in scene.single:
        for b in scene.single:
            if RATIO <= max(scene.side[a], scene.side[b]) / min(scene.side[a], scene.side[b]) <= 2:
                question = f"Is the {scene.digits[a]} larger than the {scene.digits[b]}?"
                yield question, _yes(scene.side[a] > scene.side[b])


def how_many_beside(scene: Scene) -> Asked:
    for i in scene.single:
        for words, (coordinate, sign) in DIRECTIONS.items():
            values = getattr(scene, coordinate)
            differences = [sign * (value - values[i]) for j, value in enumerate(values) if j != i]
            if min(map(abs, differences)) >= MARGIN:
                number = sum(difference > 0 for difference in differences)
                if number <= MAX_COUNT:
                    yield f"How many digits are {words} the {scene.digits[i]}?", str(number)


def which_extreme_beside(scene: Scene) -> Asked:
    """Only where the side matters: the largest (smallest) of all would be the wrong answer."""
    for i in scene.single:
        for words, (coordinate, sign) in DIRECTIONS.items():
            values = getattr(scene, coordinate)
            if any(abs(value - values[i]) < MARGIN for j, value in enumerate(values) if j != i):
                continue
            beside = [j for j, value in enumerate(values) if sign * (value - values[i]) > 0]
            if len(beside) < 2:
                continue
            for word in ("largest", "smallest"):
                best = _first(scene, beside, *EXTREMES[word])
                rest = [j for j in range(len(scene.digits)) if j != i]
                if best is not None and best != max(rest, key=lambda j: EXTREMES[word][1] * scene.side[j]):
                    yield f"Which is the {word} digit {words} the {scene.digits[i]}?", str(scene.digits[best])


def which_nearest(scene: Scene) -> Asked:
    for i in scene.single:
        near, second = sorted((_distance(scene, i, j), j) for j in range(len(scene.digits)) if j != i)[:2]
        if second[0] >= RATIO * near[0]:
            yield f"Which digit is nearest to the {scene.digits[i]}?", str(scene.digits[near[1]])


def is_nearer(scene: Scene) -> Asked:
    for a in scene.single:
        for b in scene.single:
            for c in scene.single:
                if len({a, b, c}) == 3:
                    to_b, to_c = _distance(scene, a, b), _distance(scene, a, c)
                    if max(to_b, to_c) >= 1.3 * min(to_b, to_c):
                        a_, b_, c_ = scene.digits[a], scene.digits[b], scene.digits[c]
                        yield f"Is the {a_} nearer to the {b_} than to the {c_}?", _yes(to_b < to_c)


@dataclass(frozen=True)
class Form:
    """A form of question: its name (the annotations' ``question_type``) and how its answers go wrong."""

    name: str
    questions: Callable[[Scene], Asked]  # every one that can be asked about a scene
    answer_type: Literal["yes/no", "number", "other"]


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
        Form("more often", more_often, "yes/no"),
        Form("is beside", is_beside, "yes/no"),
        Form("is larger", is_larger, "yes/no"),
        Form("how many beside", how_many_beside, "number"),
        Form("which largest beside", which_extreme_beside, "other"),
        Form("which nearest", which_nearest, "other"),
        Form("is nearer", is_nearer, "yes/no"),
    )
}


@dataclass(frozen=True)
class Mix:
    """What is shown and asked, and how often."""

    kinds: int  # the digits 0 to kinds - 1
    crowding: float  # below 1: small scenes are the more frequent
    negatives: float  # the share of digits that are shown as a negative
    forms: dict[str, float]  # name of a form -> its share


# Few kinds, few regions and questions that bind one word to one region let learning take off early. Half of the
# questions need two regions at once.
MIXES = {
    "quick": Mix(
        kinds=5,
        crowding=0.65,
        negatives=0.25,
        forms={
            "is there": 1,
            "which corner": 1,
            "small or large": 1,
            "which digit is the": 0.5,
            "how many of the digits": 0.5,
            "is another": 2,
            "are same": 2.5,
        },
    ),
    "hard": Mix(kinds=10, crowding=0.85, negatives=0.25, forms=dict.fromkeys(FORMS, 1)),
}


class Asker:
    """Draws questions about scene after scene so that, form by form, each answer comes as often as another."""

    def __init__(self, mix: Mix, rng: np.random.Generator):
        self.mix = mix
        self.rng = rng
        self.of_form = Counter()  # name of a form -> how often yet
        self.of_answer = Counter()  # (name of a form, answer) -> how often yet
        self.of_question = Counter()  # (question, answer) -> how often yet

    def __call__(self, scene: Scene, n: int) -> list[tuple[Form, str, str]]:
        """n different questions about a scene, fewer if it has no more: form, question, true answer."""
        possible = {name: list(FORMS[name].questions(scene)) for name in self.mix.forms}
        asked = []
        while len(asked) < n and (names := [name for name in possible if possible[name]]):
            # The form that is furthest behind its share, and the answer that it, then the question, had least.
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


# ------------------------------------------------------------------------------------------- annotators

ERR = 0.04  # how often an annotator is wrong, and how often one uses another word
WORDS = dict(enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]))
LOOK_ALIKE = {0: 6, 1: 7, 2: 7, 3: 8, 4: 9, 5: 6, 6: 5, 7: 1, 8: 3, 9: 4}
OTHER_WORDS = {  # what some say instead, and the mistake that is made
    "yes": ("yeah", "no"),
    "no": ("nope", "yes"),
    "small": ("little", "large"),
    "large": ("big", "small"),
    "top left": ("upper left", "top right"),
    "top right": ("upper right", "top left"),
    "bottom left": ("lower left", "bottom right"),
    "bottom right": ("lower right", "bottom left"),
}


def annotate(form: Form, answer: str, rng: np.random.Generator) -> list[str]:
    """Ten human answers, most of them true: annotators miscount by one, confuse look-alikes, use other words."""
    while True:
        given = []
        for wrong, other, up in rng.random((10, 3)):
            if answer in OTHER_WORDS:
                synonym, mistake = OTHER_WORDS[answer]
                given.append(mistake if wrong < ERR else synonym if other < ERR else answer)
                continue
            number = int(answer)
            if wrong < ERR and form.answer_type == "number":
                number = number + 1 if up < 0.5 or number == 0 else number - 1
            elif wrong < ERR:
                number = LOOK_ALIKE[number]
            given.append(WORDS[number] if other < ERR and number in WORDS else str(number))
        if sum(one in (answer, WORDS.get(int(answer)) if answer.isdigit() else answer) for one in given) > 5:
            return given
