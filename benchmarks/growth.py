"""How the cost of a search's step grows with cells, nodes, candidates, regions and width.

    python -m benchmarks.growth

From a small supernet, one of these is varied at a time. The steps of all its values are taken in turn in one process;
the table has the medians, and the exponent with which time, and with which the arithmetic of the matrix products, grows
from the lowest value to the highest.
"""

import argparse
import math
import os
from contextlib import nullcontext
from itertools import cycle, islice
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import trainer  # noqa: F401  before NNI is imported: what it warns of
from benchmarks.step import (
    DATA,
    Products,
    Side,
    alternate,
    batch_of,
    choices_of,
    region_counts,
    set_balanced_sample,
    training_step,
)
from model_space.architecture import Space
from model_space.sizes import NetworkSettings
from model_space.spaces import stacked
from model_space.spaces.stacked import StackedSettings
from trainer.strategies.snas import Snas

BATCH = 16
BASE = {"cells": 1, "nodes": 3, "candidates": 5, "regions": 100, "hidden": 128}
VALUES = {
    "cells": (1, 2, 4, 6),
    "nodes": (2, 3, 4, 6),
    "candidates": (2, 4, 6, 8),
    "regions": (25, 50, 100, 200),
    "hidden": (64, 128, 256, 512, 1024),
}


def supernet(cells: int, nodes: int, candidates: int, hidden: int) -> nn.Module:
    """With so many candidates an edge: feed-forward, self-attention, guided attention, and those again."""
    costly = [name for name in stacked.OPERATIONS if name not in ("none", "identity")]
    names = islice(cycle(costly), candidates)
    operations = {f"{name}{place}": stacked.OPERATIONS[name] for place, name in enumerate(names)}
    space = Space(backbone=StackedSettings(cells=cells, nodes=nodes), network=NetworkSettings(hidden=hidden), data=DATA)
    with patch.dict(stacked.OPERATIONS, operations, clear=True):
        return Snas(architecture_lr=1e-3, temperature=(1.0, 1.0)).mutate_model(space.build())


def side_of(regions: int, **sizes: int) -> tuple[Side, list, int]:
    """A step of such a supernet, its choices, and its arithmetic."""
    network = supernet(**sizes)
    # The first image has them all.
    counts = (region_counts(BATCH) * regions / 100).clip(1).astype(int)
    counts[-1] = regions
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    side = Side("", training_step(network, [batch_of(counts, regions)], optimizer, nullcontext))
    choices = choices_of(network)
    set_balanced_sample(choices, 0)
    with Products() as products:
        side()
    return side, choices, products.flops


def exponent(values: tuple[int, ...], costs: list[float]) -> float:
    return math.log(costs[-1] / costs[0]) / math.log(values[-1] / values[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    table = Table("varied", "values", "ms a step", "exponent", "of arithmetic")
    for varied, values in VALUES.items():
        measured = [side_of(**(BASE | {varied: value})) for value in values]

        def resample(shift: int, each: tuple = tuple(choices for _, choices, _ in measured)) -> None:
            for choices in each:
                set_balanced_sample(choices, shift)

        alternate([side for side, _, _ in measured], rounds, resample)
        seconds = [side.median for side, _, _ in measured]
        table.add_row(
            varied,
            ", ".join(map(str, values)),
            ", ".join(f"{1000 * each:.0f}" for each in seconds),
            f"{exponent(values, seconds):.2f}",
            f"{exponent(values, [flops for _, _, flops in measured]):.2f}",
        )
        del measured
    base = ", ".join(f"{name} {value}" for name, value in BASE.items())
    console = Console(width=None if os.isatty(1) else 120)
    console.print(table)
    console.print(f"else {base}, batch {BATCH}; {torch.get_num_threads()} CPU threads; medians of {rounds} rounds")


if __name__ == "__main__":
    main()
