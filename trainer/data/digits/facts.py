"""What is known of the digits of the embedded data and shown by no image: which team, club and so on each is in.

Questions that ask for such a fact are those of fact-based visual question answering (Wang et al. 2018): the image says
of which thing, and the fact has to have been learned. Feed-forward layers are where transformers keep facts (Geva et
al. 2021).
"""

from itertools import product

import numpy as np

from trainer.data.digits.scenes import COLOURS

GROUPS = ("team", "club", "school", "house", "band")
"""What a digit is in one of."""
NAMES = ("lions", "bears", "eagles", "sharks", "wolves")
"""The names of the teams, of the clubs, and so on."""
HALVES = ("left", "right")
"""The halves of the canvas."""


def _facts() -> dict[tuple[str, int, str, str], str]:
    rng = np.random.default_rng(0)
    things = list(product(range(10), COLOURS, HALVES))
    made: dict[tuple[str, int, str, str], str] = {}
    for group in GROUPS:
        names = rng.permutation(np.resize(NAMES, len(things))).tolist()
        made |= {(group, *thing): name for thing, name in zip(things, names, strict=True)}
    return made


FACTS = _facts()
"""Group, digit, colour and half of the canvas → the name. They are always the same."""
