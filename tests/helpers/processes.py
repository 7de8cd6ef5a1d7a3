"""One training, or searches, by the processes of torchrun: ``processes.py FOLDER train|search``, a folder with data."""

import sys
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path

import torch

from model_space.architecture import Architecture
from model_space.encoders.recurrent import RecurrentSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import search_settings
from tests.helpers.tiny import tiny_space
from trainer.callbacks.checkpoint import CHECKPOINT, load_checkpoint
from trainer.callbacks.resume import Resume
from trainer.data.settings import DataSettings
from trainer.data.splits import Data, load_data
from trainer.search import search
from trainer.train import TrainSettings, train

SPACE = StackedSettings(edges="one", cells=1, nodes=2)
RECURRENT = {"edges": "one", "nodes": 2, "input_dropout": 0, "hidden_dropout": 0}
SEARCHES = {
    "snas": {"strategy": "snas"},
    "single_path": {"strategy": "single_path"},
    "progressive_shrinking": {"strategy": "progressive_shrinking", "matrix_lr": 5e-3},
    "random_one_shot": {"strategy": "random_one_shot"},
    "proxyless": {"strategy": "proxyless", "matrix_lr": 5e-3},
    "darts": {"strategy": "darts"},
    "second_order": {"strategy": "darts", "xi": 0.01, "matrix_lr": 5e-3},
    "gumbel_darts": {"strategy": "gumbel_darts", "encoder": RecurrentSettings(**RECURRENT)},
    "each_call": {"strategy": "snas", "encoder": RecurrentSettings(**RECURRENT, resample="step")},
}
"""What is set of a search by its name, and the encoder where it samples at each time step."""


def training(data: Data, folder: Path, steps: int, dropout: float) -> None:
    torch.set_num_threads(1)
    space = tiny_space(SPACE, dropout=dropout)
    settings = TrainSettings(epochs=1, steps_per_epoch=steps, batch_size=16, accumulate=2, lr=1e-3, clip=1.0, seed=3)
    train(data, Architecture(space=space, choices=space.random_choices(4)), settings, folder)


def searching(data: Data, folder: Path, name: str, dropout: float = 0.0, **changes) -> Architecture:
    """Searches; without dropout in double precision, which no setting names: micro-batches add up to 1e-10 there."""
    torch.set_num_threads(1)
    options = dict(SEARCHES[name])
    space = tiny_space(SPACE, options.pop("encoder", None), dropout=dropout).model_copy(update={"data": data.sizes})
    few = {"epochs": 2, "steps_per_epoch": 3, "batch_size": 16, "lr": 1e-3, "architecture_lr": 1e-2, "seed": 3}
    settings = search_settings(**few | options | {"temperature": (2.0, 0.5)} | changes)
    if not dropout:
        settings = settings.model_copy(update={"precision": "64-true", "samples": 0})
    return search(data, space, settings, folder, lambda epoch: None)


class Cut(Exception):
    pass


def cut_after(data: Data, batches: int) -> Data:
    """The data, whose training questions can be read so many batches long."""

    class CutShort(type(data.train)):
        read = 0

        def __getitem__(self, rows):
            self.read += 1
            if self.read > batches:
                raise Cut
            return super().__getitem__(rows)

    train = copy(data.train)
    train.__class__ = CutShort
    return replace(data, train=train)


def cut_and_resumed(data: Data, folder: Path, name: str, batches: int, **changes) -> None:
    """Runs a search that ends within an epoch, and another that resumes from its checkpoint."""
    changes |= {"dropout": 0.1, "checkpoint_minutes": 1e-6}
    with suppress(Cut):
        searching(cut_after(data, batches), folder, name, **changes)
    assert load_checkpoint(folder / CHECKPOINT)[Resume.KEY]["place"] == (0, 2)
    torch.manual_seed(99)  # another process has used other random numbers
    searching(data, folder, name, **changes)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    data = load_data(DataSettings.model_validate_json((folder / "data.json").read_text()))
    if sys.argv[2] == "train":
        training(data, folder / "exact", steps=4, dropout=0.0)
        training(data, folder / "dropout", steps=1, dropout=0.1)
    else:
        for name in SEARCHES:
            searching(data, folder / f"{name} two", name, accumulate=2)
        searching(data, folder / "whole", "each_call", dropout=0.1)
        cut_and_resumed(data, folder / "cut", "each_call", batches=2)
