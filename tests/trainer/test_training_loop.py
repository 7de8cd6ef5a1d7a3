"""Training as the papers do it: what a step is, on how many processes, and that it resumes wherever it was cut."""

import json
import os
import re
import shutil
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.kill import difference, tiny
from tests.helpers.processes import training
from tests.helpers.running import run
from tests.helpers.searching import search_settings
from tests.helpers.tiny import space_of, tiny_space
from trainer.callbacks import loss_monitor, progress_bar
from trainer.callbacks.checkpoint import CHECKPOINT, load_checkpoint
from trainer.callbacks.curve import read_curve
from trainer.callbacks.resume import Resume
from trainer.data.batches import ShuffledBatches
from trainer.data.splits import load_data
from trainer.module import VQAModule
from trainer.search import search
from trainer.train import TrainSettings, train

KILLS = int(os.environ.get("KILLS", 21))
MCAN = Architecture(space=tiny_space(MCANSettings(layers=1)), choices={})


def settings(**changes) -> TrainSettings:
    return TrainSettings(**({"epochs": 2, "batch_size": 16, "lr": 1e-3, "warmup": None} | changes))


def assert_trained_alike(first: Path, second: Path) -> None:
    """Up to rounding; without the biases that a softmax does not see: Adam makes their rounding large."""
    one, two = (load_checkpoint(folder / CHECKPOINT) for folder in (first, second))
    assert one["global_step"] == two["global_step"] > 0
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, weight in one["state_dict"].items():
        if not re.search(r"key\.bias|flatten_\w+\.mlp.*bias", name):
            torch.testing.assert_close(two["state_dict"][name], weight, rtol=0, atol=1e-6, msg=name)
    for epoch, other in zip(read_curve(first), read_curve(second), strict=True):
        assert epoch == pytest.approx(other, rel=1e-5)


def test_the_defaults_are_mcans():
    """mcan-vqa, cfgs/base_cfgs.py and small_model.yml, core/model/optim.py."""
    defaults = TrainSettings()
    assert (defaults.epochs, defaults.batch_size, defaults.lr, defaults.clip) == (13, 64, 1e-4, None)
    scales = [
        defaults.lr_scale(step, steps_per_epoch=10) for step in (0, 9, 10, 19, 20, 29, 30, 99, 100, 119, 120, 129)
    ]
    assert scales == pytest.approx([1 / 4, 1 / 4, 2 / 4, 2 / 4, 3 / 4, 3 / 4, 1, 1, 0.2, 0.2, 0.04, 0.04])
    module = VQAModule(defaults, steps_per_epoch=10)
    module.set_model(MCAN.network())
    group = module.configure_optimizers()["optimizer"].param_groups[0]
    assert (group["betas"], group["eps"], group["initial_lr"], group["lr"]) == ((0.9, 0.98), 1e-9, 1e-4, 0.25e-4)


@pytest.mark.parametrize("warmup", ["5", "steps", "0 steps", "5 step", "-5 steps", "5 steps, 3 epochs"])
def test_a_warmup_is_a_number_of_steps_or_epochs(warmup):
    with pytest.raises(ValueError, match="warmup"):
        TrainSettings(warmup=warmup)


def test_the_learning_rate_rises_as_the_warmup_says():
    """Linearly over steps, by a stair in each epoch, or not at all."""
    assert [TrainSettings(warmup="5 steps").lr_scale(step, 10) for step in (0, 1, 4, 5)] == [0.2, 0.4, 1.0, 1.0]
    assert [TrainSettings(warmup="3 epochs").lr_scale(step, 10) for step in (0, 9, 10, 29, 30)] == [
        0.25,
        0.25,
        0.5,
        0.75,
        1.0,
    ]
    assert TrainSettings(warmup=None).lr_scale(0, 10) == 1.0


def test_parts_and_shares_make_the_batches():
    lengths = torch.randint(1, 9, (50,))
    whole, divided = (ShuffledBatches(lengths, 12, seed=1, drop_last=True) for _ in range(2))
    shares = []
    for rank in range(2):
        divided.divide(3, rank, 2)
        divided.set_epoch(4)
        shares.append(list(divided))
        assert len(divided) == len(shares[-1]) == 12
        divided.set_epoch(4, start=5)
        assert list(divided) == shares[-1][5:]
        divided.set_epoch(4)
        assert list(divided) == shares[-1][5:]  # Lightning says the epoch once more
        divided.set_epoch(5)
        assert len(list(divided)) == 12
    whole.set_epoch(4)
    for place, batch in enumerate(whole):
        parts = [part for share in shares for part in share[3 * place : 3 * place + 3]]
        assert {len(part) for part in parts} == {2}
        assert sorted(row for part in parts for row in part) == sorted(batch)
    assert sorted(divided.micro_batch(4, 7)) == sorted(shares[0][7] + shares[1][7])


def test_four_parts_of_a_batch_are_one_step(tiny_data, tmp_path):
    for accumulate in (1, 4):
        train(tiny_data, MCAN, settings(batch_size=32, accumulate=accumulate, clip=5.0), tmp_path / f"{accumulate}")
    assert_trained_alike(tmp_path / "1", tmp_path / "4")


def test_a_batch_that_cannot_be_divided_is_refused(tiny_data, tmp_path):
    with pytest.raises(InputError, match=r"train\.batch_size: 16 questions cannot be divided into 3 micro-batches"):
        train(tiny_data, MCAN, settings(accumulate=3), tmp_path)


def test_two_processes_train_as_one(tmp_path):
    """Under torchrun, over gloo: the same parameters as one process with all of each batch."""
    data = tiny(tmp_path)
    (tmp_path / "data.json").write_text(data.model_dump_json())
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    run(*torchrun, "-m", "tests.helpers.processes", tmp_path, "train")
    training(load_data(data), tmp_path / "one", steps=4, dropout=0.0)
    assert_trained_alike(tmp_path / "one", tmp_path / "exact")
    first, second = load_checkpoint(tmp_path / "dropout" / CHECKPOINT)[Resume.KEY]["processes"]
    assert not torch.equal(first["cpu"], second["cpu"])
    with pytest.raises(InputError, match="a run of 2 processes, and these are 1"):
        training(load_data(data), tmp_path / "dropout", steps=1, dropout=0.1)


def test_killed_at_any_moment_a_run_ends_as_if_it_had_not_been(tmp_path):
    """KILLS=500 python -m pytest tests/trainer/test_training_loop.py -k killed"""
    said = json.loads(run("-m", "tests.helpers.kill", tmp_path, KILLS, 0))
    assert said["kills"] >= KILLS and said["within an epoch"] > KILLS / 4
    assert not said["differences"]


def test_batches_that_were_read_ahead_are_not_lost(tiny_data, tmp_path):
    """Workers have fetched batches that the run, when it was cut near the end of its second epoch, had not come to."""
    data = replace(tiny_data, train=copy(tiny_data.train))
    data.train.workers = 2
    few = settings(epochs=3, checkpoint_minutes=1e-6)
    train(data, MCAN, few, tmp_path / "whole")

    def interrupt(epoch):
        if epoch["epoch"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(data, MCAN, few, tmp_path / "cut", interrupt)
    assert load_checkpoint(tmp_path / "cut" / CHECKPOINT)[Resume.KEY]["place"] == (1, 5)
    train(data, MCAN, few, tmp_path / "cut")
    assert not difference(*(load_checkpoint(tmp_path / name / CHECKPOINT) for name in ("whole", "cut")))


class Poison:
    """A split in which the features of one question are not numbers."""

    def __init__(self, split, row: int):
        self.split, self.row = split, row

    def __getattr__(self, name):
        return getattr(self.split, name)

    def __len__(self):
        return len(self.split)

    def __getitem__(self, rows):
        batch = self.split[rows]
        if self.row in rows:
            batch.regions[rows.index(self.row)] = torch.nan
        return batch


def poisoned(data, place: int):
    """The data with a poisoned question in the first epoch's batch of 16 at that place, and that batch's questions."""
    rows = ShuffledBatches(data.train.lengths, 16, seed=0, drop_last=True).micro_batch(0, place)
    return replace(data, train=Poison(data.train, rows[3])), [data.train.question_ids[row] for row in rows]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_questions(tiny_data, tmp_path):
    data, ids = poisoned(tiny_data, 3)
    with pytest.raises(InputError) as stopped:
        train(data, MCAN, settings(checkpoint_minutes=1e-6), tmp_path)
    said = str(stopped.value)
    assert f"epoch 1, step 4: the loss is nan at the questions {', '.join(map(str, ids))};" in said
    assert f"{tmp_path / CHECKPOINT} is from before" in said and "\n" not in said
    kept = load_checkpoint(tmp_path / CHECKPOINT)
    assert kept[Resume.KEY]["place"] == (0, 3)
    assert all(weight.isfinite().all() for weight in kept["state_dict"].values())
    train(tiny_data, MCAN, settings(checkpoint_minutes=1e-6), tmp_path)  # mended, it resumes
    assert len(read_curve(tmp_path)) == 2


@pytest.mark.parametrize("strategy", ["snas", "darts"])
def test_a_search_stops_likewise(tiny_data, tmp_path, strategy):
    data, ids = poisoned(tiny_data, 2)
    if strategy == "darts":
        ids = []  # another half of the questions, in another order
    options = search_settings(strategy=strategy, epochs=1, batch_size=16, lr=1e-3, checkpoint_minutes=1e-6)
    space = space_of(tiny_data, StackedSettings(edges="one", cells=1, nodes=2))
    with pytest.raises(InputError, match=f"epoch 1, step [0-9]: .* the questions .*{', '.join(map(str, ids))}"):
        search(data, space, options, tmp_path, lambda epoch: None)


def test_where_steps_are_slow_each_is_seen(tiny_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loss_monitor, "SECONDS", 0.0)
    monkeypatch.setattr(progress_bar, "BAR_SECONDS", 0.0)
    train(tiny_data, MCAN, settings(epochs=1, steps_per_epoch=3, batch_size=8), tmp_path, progress_bar=True)
    said = capsys.readouterr()
    for step in (1, 2, 3):  # fewer than are read together where steps are fast
        assert re.search(rf"\b{step}/3 [^\r\n]*loss=", said.out + said.err)


def test_logs_are_no_reason_to_lose_a_run(tiny_data, tmp_path, capsys):
    """TensorBoard's folder is deleted on the way, or cannot be made: the run goes on, and says so once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    gone = tmp_path / "gone/tensorboard"
    train(tiny_data, MCAN, settings(epochs=3), gone.parent, lambda epoch: epoch["epoch"] == 2 and shutil.rmtree(gone))
    events = EventAccumulator(str(gone)).Reload()
    assert [event.step for event in events.Scalars("epoch/loss")] == [12, 18]
    assert "TensorBoard" not in capsys.readouterr().err

    (tmp_path / "none").mkdir()
    (tmp_path / "none/tensorboard").write_text("no folder")
    train(tiny_data, MCAN, settings(epochs=3), tmp_path / "none")
    assert capsys.readouterr().err.count("none/tensorboard: no more figures for TensorBoard: File exists") == 1
    assert read_curve(tmp_path / "none") == read_curve(tmp_path / "gone")


def test_what_is_seen_on_the_way(tiny_data, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tiny_data, MCAN, settings(batch_size=8), tmp_path, progress_bar=True)
    bar = capsys.readouterr()
    for figure in ("loss=", "accuracy=", "questions/s=", "memory="):
        assert figure in bar.out + bar.err
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    names = {"loss", "running_accuracy", "questions_per_second", "memory_GB", "lr"}
    assert {f"train/{name}" for name in names} | {"epoch/loss", "epoch/accuracy"} == set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("epoch/accuracy")] == [12, 24]
    curve = [epoch["accuracy"] for epoch in read_curve(tmp_path)]
    assert [event.value for event in events.Scalars("epoch/accuracy")] == pytest.approx(curve)
