"""Scenes of the embedded data: digits and clutter on a canvas, each with a box and a feature."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

WIDTH, HEIGHT = 320, 240
"""The canvas in pixels."""
SIDES = (16, 52)
"""The smallest and the largest side of a box in pixels."""
COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "white": (1, 1, 1)}
"""The colours of regions: red, green and blue, from -1 to 1."""
COLOURS_PER_SCENE = 3
"""The number of colours that a scene may have: with more of them, few scenes would have two digits of one colour."""
COLOUR_NOISE = 0.25
"""The standard deviation of a region's colour around its name's."""
GAIN = 2
"""The factor of colours and boxes, which are from -1 to 1: they are so learned sooner beside the scores."""
SEEN = 1.0
"""The largest score of a region above which it counts as a digit: clutter has less."""


@dataclass(frozen=True)
class Scene:
    """The regions on a canvas: digits and clutter.

    The other properties are what questions look at: lists over the digits alone, as plain numbers.
    """

    kinds: np.ndarray
    """The digit of each region (N,), 0 to 9, or -1 for clutter."""
    sources: np.ndarray
    """The index of each region's source image (N,), or -1 for clutter."""
    boxes: np.ndarray
    """The corners x1, y1, x2, y2 of each region in pixels (N, 4). No two boxes overlap."""
    colours: np.ndarray
    """The colour of each region (N,), by its position in :data:`COLOURS`."""
    palette: int
    """The digits that may be asked for are 0 to palette - 1."""

    @cached_property
    def digits(self) -> list[int]:
        """Which digit each of them is."""
        return self.kinds[self.kinds >= 0].tolist()

    @cached_property
    def colour(self) -> list[str]:
        """The colour of each digit."""
        names = list(COLOURS)
        return [names[i] for i in self.colours[self.kinds >= 0]]

    @cached_property
    def x(self) -> list[float]:
        """The horizontal centre of each digit in pixels."""
        corners = self.boxes[self.kinds >= 0]
        return ((corners[:, 0] + corners[:, 2]) / 2).tolist()

    @cached_property
    def y(self) -> list[float]:
        """The vertical centre of each digit in pixels."""
        corners = self.boxes[self.kinds >= 0]
        return ((corners[:, 1] + corners[:, 3]) / 2).tolist()

    @cached_property
    def side(self) -> list[int]:
        """The side of each digit's box in pixels."""
        corners = self.boxes[self.kinds >= 0]
        return (corners[:, 2] - corners[:, 0]).tolist()

    @cached_property
    def count(self) -> Counter[int]:
        """How often each digit is there."""
        return Counter(self.digits)

    @cached_property
    def single(self) -> list[int]:
        """The positions of the digits that are there once."""
        return [i for i, digit in enumerate(self.digits) if self.count[digit] == 1]


def sample_scene(sources: list[np.ndarray], crowding: float, rng: np.random.Generator) -> Scene:
    """Samples a scene of 3 to 10 digits, most kinds once and some up to four times, and at most one piece of clutter.

    Args:
        sources: The indices of the source images of each kind of digit.
        crowding: How many scenes have n + 1 digits for each scene that has n.
        rng: The source of random numbers.
    """
    share = crowding ** np.arange(8)
    n = rng.choice(np.arange(3, 11), p=share / share.sum())
    times = rng.choice([1, 2, 3, 4], size=n, p=[0.6, 0.15, 0.125, 0.125])
    every_kind = [rng.permutation(len(sources)) for _ in range(-(-n // len(sources)))]
    kinds = np.repeat(np.concatenate(every_kind)[:n], times)[:n]
    clutter = np.full(rng.integers(0, 2), -1)
    order = rng.permutation(n + len(clutter))
    chosen = [sources[kind][rng.integers(len(sources[kind]))] for kind in kinds]
    return Scene(
        np.concatenate([kinds, clutter])[order],
        np.concatenate([chosen, clutter])[order],
        place_boxes(len(order), rng),
        rng.permutation(len(COLOURS))[rng.integers(COLOURS_PER_SCENE, size=len(order))],
        len(sources),
    )


def place_boxes(n: int, rng: np.random.Generator) -> np.ndarray:
    """Samples n squares that do not overlap, about half of them close to another one.

    Returns:
        The corners x1, y1, x2, y2 in pixels (n, 4).
    """
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
                # Takes the free place that is nearest to the centre of another square.
                gaps = (tried[free, None, :2] + side / 2) - (boxes[None, :i, :2] + sides[None, :i, None] / 2)
                boxes[i] = tried[free[np.hypot(*gaps.T).T.min(1).argmin()]]
        else:
            return boxes


def region_features(scene: Scene, scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the features of a scene's regions, as a detector would see them.

    Class and box are parts of the feature, since not every network reads the boxes (MCAN does not).

    Args:
        scene: The scene.
        scores: What the detector says of each region (N, S).
        rng: The source of random numbers.

    Returns:
        Features (N, S + 8), float32: the scores, the colour, then centre, sides and area of the box.
    """
    colours = np.array(list(COLOURS.values()))[scene.colours]
    colours = colours + COLOUR_NOISE * rng.standard_normal(colours.shape)
    centre = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / (WIDTH, HEIGHT) - 1
    sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
    area = 2 * sides.prod(1, keepdims=True) / SIDES[1] ** 2 - 1
    box = np.concatenate([centre, 2 * (sides - SIDES[0]) / (SIDES[1] - SIDES[0]) - 1, area], axis=1)
    return np.concatenate([scores, GAIN * colours, GAIN * box], axis=1, dtype=np.float32)


def seen_as(features: np.ndarray) -> list[tuple[str, str]]:
    """Returns what each region is by its feature: a digit, empty where the detector sees none, and a colour.

    Args:
        features: Features (N, S + 8) as :func:`region_features` makes them.
    """
    scores, colours = features[:, :-8], features[:, -8:-5] / GAIN
    names, corners = list(COLOURS), np.array(list(COLOURS.values()))
    nearest = np.linalg.norm(colours[:, None] - corners, axis=-1).argmin(-1)
    kinds = [str(row.argmax()) if row.max() > SEEN else "" for row in scores]
    return [(kind, names[colour]) for kind, colour in zip(kinds, nearest.tolist(), strict=True)]
