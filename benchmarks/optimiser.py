"""What a step of Muon costs, beside that of Adam alone and torch's own Muon with Adam beside it.

    python -m benchmarks.optimiser

All move the weights of one network: MCAN with one layer at the sizes of the embedded data, and the supernet of
``settings/digits.yml``. In every round each takes a step, one after the other in the same process, with the same
gradients; the table has the medians.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import trainer  # noqa: F401  before NNI is imported: what it warns of
from benchmarks.step import Side, alternate
from experiment.settings import read_settings
from model_space.architecture import Architecture, Space
from model_space.sizes import DataSizes
from model_space.spaces.mcan import MCANSettings
from trainer.module import VQAModule, hidden_matrices
from trainer.settings import LoopSettings

DATA = DataSizes(feature_size=18, vocabulary_size=20, answers=6)
ADAM: dict[str, Any] = {"lr": 1e-6, "betas": (0.9, 0.98), "eps": 1e-9, "fused": True}


def sides(network: nn.Module, settings: LoopSettings) -> list[Side]:
    """Returns the steps of the three optimisers on a network whose gradients are random."""
    for each in network.parameters():
        each.grad = torch.randn_like(each)
    module = VQAModule(settings, steps_per_epoch=1)
    module.set_model(network)
    ours = module.configure_optimizers()["optimizer"]
    others, matrices = (group["params"] for group in ours.param_groups)
    torchs = torch.optim.Muon(matrices, lr=1e-6, weight_decay=0.0, momentum=0.8, adjust_lr_fn="match_rms_adamw")
    beside = torch.optim.Adam(others, **ADAM)
    alone = torch.optim.Adam(network.parameters(), **ADAM)

    def both() -> None:
        torchs.step()
        beside.step()

    return [Side("Muon, here", lambda: ours.step()), Side("Muon, torch's", both), Side("Adam", lambda: alone.step())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    settings = read_settings(Path("settings/digits.yml"))
    mcan = Space(backbone=MCANSettings(layers=1), network=settings.network, data=DATA)
    networks = {
        "MCAN, 1 layer": Architecture(space=mcan, choices={}).network(),
        "supernet of digits": settings.search.build().mutate_model(settings.space_for(DATA).build()),
    }
    table = Table()
    for title in ("a step, one thread", "matrices", "Muon, here, ms", "torch's, ms", "ratio", "Adam, ms"):
        table.add_column(title, justify="left" if title.startswith("a") else "right")
    for name, network in networks.items():
        ours, torchs, adam = measured = sides(network, settings.search)
        alternate(measured, rounds)
        milliseconds = [f"{1000 * each.median:.2f}" for each in (ours, torchs, adam)]
        ratio = f"{torchs.median / ours.median:.1f} ×"
        table.add_row(name, str(len(hidden_matrices(network))), *milliseconds[:2], ratio, milliseconds[2])
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
