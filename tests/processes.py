"""One training by the processes of torchrun, for ``tests/test_training.py``; its argument is a folder with data."""

import sys
from pathlib import Path

import torch
from conftest import tiny_space

from model_space.architecture import Architecture, random_choices
from model_space.stacked import StackedSettings
from trainer.data.splits import Data, DataSettings, load_data
from trainer.train import TrainSettings, train


def training(data: Data, folder: Path, steps: int, dropout: float) -> None:
    torch.set_num_threads(1)
    space = tiny_space(StackedSettings(edges="one", cells=1, nodes=2), dropout=dropout)
    settings = TrainSettings(epochs=1, steps_per_epoch=steps, batch_size=16, accumulate=2, lr=1e-3, clip=1.0, seed=3)
    train(data, Architecture(space, random_choices(space, 4)), settings, folder)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    data = load_data(DataSettings.model_validate_json((folder / "data.json").read_text()))
    training(data, folder / "exact", steps=4, dropout=0.0)
    training(data, folder / "dropout", steps=1, dropout=0.1)
