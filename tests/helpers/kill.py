"""Runs that are killed at random moments and go on, until they end; compared with one that was not.

    PYTHONPATH=.:tests python tests/helpers/kill.py FOLDER KILLS SEED

Each start is a child forked from this process, which has loaded and computed nothing but the imports and the data: a
start costs little, so that a run can be killed often. Prints, as JSON, how often runs were killed and what differed.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from model_space.architecture import Architecture, Space
from model_space.encoders.recurrent import RecurrentSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import search_settings
from tests.helpers.tiny import tiny_network
from tests.helpers.tiny_vqa import write_split
from trainer.callbacks.checkpoint import CHECKPOINT, load_checkpoint
from trainer.callbacks.curve import read_curve
from trainer.callbacks.resume import Resume
from trainer.data.settings import DataSettings, SplitSettings
from trainer.data.splits import Data, load_data
from trainer.search import search
from trainer.train import TrainSettings, train

KINDS = ("train", "snas", "gumbel_darts")
"""a training, or a search by a strategy"""

OFTEN = {"epochs": 2, "lr": 1e-3, "matrix_lr": 5e-3, "checkpoint_minutes": 1e-6}
"""A checkpoint after every step, and Muon beside Adam."""


def tiny(folder: Path) -> DataSettings:
    """Files of two splits."""
    splits = {
        name: SplitSettings(**write_split(folder, name, 12, questions, feature_size=12, seed=seed)._asdict())
        for seed, (name, questions) in enumerate({"train": 96, "val": 24}.items())
    }
    return DataSettings(**splits, min_answer_count=1)


def run(kind: str, data: Data, folder: Path) -> None:
    """The run, from its beginning or from where it was killed; with dropout, which draws in every step."""
    torch.set_num_threads(1)
    network = tiny_network(dropout=0.1, channel_dropout=0.1)
    space = Space(
        backbone=StackedSettings(edges="one", cells=1, nodes=2),
        encoder=RecurrentSettings(edges="one", nodes=2),
        network=network,
        data=data.sizes,
    )
    if kind == "train":
        settings = TrainSettings(**OFTEN, batch_size=16, accumulate=2, warmup="1 epochs", decay_epochs=(1,), clip=1.0)
        train(data, Architecture(space=space, choices=space.random_choices(3)), settings, folder)
    else:
        settings = search_settings(
            **OFTEN, batch_size=8, accumulate=2, strategy=kind, temperature=(2.0, 0.5), warmup="5 steps"
        )
        search(data, space, settings, folder, lambda epoch: None)


def start(kind: str, data: Data, folder: Path) -> int:
    """The process of a run that starts or resumes."""
    child = os.fork()
    if child == 0:
        try:
            run(kind, data, folder)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def difference(first, second, path: str = "") -> str | None:
    """Where two checkpoints differ first; None where they are equal, every tensor bit by bit."""
    if type(first) is not type(second):
        return path
    if isinstance(first, torch.Tensor):
        same = first.dtype == second.dtype and first.shape == second.shape
        bits = [tensor.reshape(-1).view(torch.uint8) for tensor in (first, second)]
        return None if same and torch.equal(*bits) else path
    if isinstance(first, dict):
        first, second = list(first.items()), list(second.items())
    if isinstance(first, list | tuple):
        if len(first) != len(second):
            return path
        pairs = enumerate(zip(first, second, strict=True))
        return next((found for place, pair in pairs if (found := difference(*pair, f"{path}/{place}"))), None)
    return None if first == second else path


def killed(folder: Path, kills: int, seed: int) -> dict:
    """How often runs were killed, and what differed in the end from runs that were not."""
    data = load_data(tiny(folder))
    draw = random.Random(seed)
    said = {"kills": 0, "within an epoch": 0, "runs": 0, "differences": []}
    for kind in KINDS:
        began = time.monotonic()
        os.waitpid(start(kind, data, folder / kind), 0)
        duration = time.monotonic() - began
        whole = load_checkpoint(folder / kind / CHECKPOINT)
        left = -(-kills // len(KINDS))
        while left:
            said["runs"] += 1
            cut = folder / f"{kind}{said['runs']}"
            while True:
                child = start(kind, data, cut)
                if left:
                    time.sleep(draw.uniform(0, 0.8 * duration))
                    os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                if not os.WIFSIGNALED(status):
                    break
                left -= 1
                said["kills"] += 1
                if (cut / CHECKPOINT).exists():
                    said["within an epoch"] += load_checkpoint(cut / CHECKPOINT)[Resume.KEY]["place"][1] > 0
            if status:
                sys.exit(f"{kind}: a start ended with {os.waitstatus_to_exitcode(status)}")
            if (found := difference(whole, load_checkpoint(cut / CHECKPOINT))) is not None:
                said["differences"].append(f"{cut}: {found}")
            if read_curve(cut) != read_curve(folder / kind):
                said["differences"].append(f"{cut}: curve")
    return said


if __name__ == "__main__":
    print(json.dumps(killed(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
