"""Checkpoints of tiny networks and settings files, for the tests of what is done with them."""

from pathlib import Path

import yaml

from model_space.architecture import Architecture
from tests.helpers.tiny import tiny_network, tiny_space
from trainer.data.settings import DataSettings
from trainer.data.splits import Data
from trainer.train import TrainSettings, train


def trained(data: Data, folder: Path, backbone, encoder=None, seed: int = 0) -> Path:
    """A checkpoint after two steps."""
    space = tiny_space(backbone, encoder)
    settings = TrainSettings(epochs=1, steps_per_epoch=2, batch_size=16, lr=1e-2, seed=seed)
    return train(data, Architecture(space=space, choices=space.random_choices(seed)), settings, folder)


def settings_file(path: Path, data: DataSettings, **space) -> Path:
    content = {"data": data.model_dump(mode="json"), "space": space, "network": tiny_network().model_dump()}
    path.write_text(yaml.safe_dump(content))
    return path
