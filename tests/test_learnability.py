"""What the embedded data tell apart: each network is changed as its name says, trained, and in the tables."""

import sys
from contextlib import ExitStack

import numpy as np
import pytest
import yaml

from benchmarks import learnability
from benchmarks.learnability import BY_ADAM, LONGER, NETWORKS, Measured, above, changed
from experiment.settings import read_settings
from model_space.architecture import Architecture
from model_space.operations import FeedForward, GuidedAttention, SelfAttention
from model_space.spaces.mcan import MCANSettings
from tests.helpers.tiny import tiny_space
from tests.helpers.trained import settings_file
from trainer.data.vocabulary import UNKNOWN
from trainer.evaluation.vqa_accuracy import Accuracy

OPERATIONS = (SelfAttention, GuidedAttention, FeedForward)


@pytest.mark.parametrize(
    "name, operations",
    [
        ("MCAN", [4, 2, 4]),
        ("MCAN without guided attention", [4, 0, 4]),
        ("MCAN without self-attention over regions", [2, 2, 4]),
        ("MCAN without feed-forward", [4, 2, 0]),
    ],
)
def test_mcan_is_without_what_its_name_says(name, operations):
    with ExitStack() as stack:
        changed(stack, name)
        network = Architecture(space=tiny_space(MCANSettings(layers=2)), choices={}).network()
    assert [sum(isinstance(each, kind) for each in network.modules()) for kind in OPERATIONS] == operations
    whole = Architecture(space=tiny_space(MCANSettings(layers=2)), choices={}).network()
    assert [sum(isinstance(each, kind) for each in whole.modules()) for kind in OPERATIONS] == [4, 2, 4]


def test_who_is_blind_sees_one_thing_of_the_other_side(tiny_data):
    seen = tiny_data.val[list(range(8))]
    with ExitStack() as stack:
        changed(stack, "question alone")
        batch = tiny_data.val[list(range(8))]
        assert batch.regions.size(1) == 1 and not batch.regions.any() and batch.region_mask.all()
        assert batch.tokens.equal(seen.tokens)
    with ExitStack() as stack:
        changed(stack, "image alone")
        batch = tiny_data.val[list(range(8))]
        assert batch.tokens.unique().tolist() == [UNKNOWN] and batch.token_mask.all()
        assert batch.regions.equal(seen.regions)


def test_what_is_above_mcan_is_over_seeds_and_questions():
    def measured(*percent):
        right = [dict(enumerate(np.full(50, each))) for each in percent]
        return [Measured(Accuracy(each, {}, {}, of)) for each, of in zip(percent, right, strict=True)]

    mcan = measured(90.0, 92.0)
    assert above(measured(80.0, 82.0), mcan) == "-10.0 (-12.0 to -8.0)"
    assert above(mcan, mcan) == above(measured(50.0), mcan) == ""


def test_twice_the_steps_are_twice_of_all_and_adam_alone_has_no_muon(tiny_data_settings, tmp_path, monkeypatch):
    class Begun(Exception):
        pass

    def train(data, architecture, options, folder):
        raise Begun(options.epochs, options.decay_epochs, options.warmup, options.matrix_lr, options.seed)

    file = settings_file(tmp_path / "chain.yml", tiny_data_settings, name="mcan")
    loop = {"epochs": 5, "decay_epochs": [3, 4], "warmup": "2 steps", "matrix_lr": 0.01}
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"train": loop}))
    monkeypatch.setattr(learnability, "train", train)
    expected = {
        "MCAN": (5, (3, 4), "2 steps", 0.01, 7),
        LONGER: (10, (6, 8), "2 steps", 0.01, 7),
        BY_ADAM: (5, (3, 4), "2 steps", None, 7),
    }
    for name, options in expected.items():
        with pytest.raises(Begun) as begun:
            learnability.measure(name, 7, read_settings(file), layers=1)
        assert begun.value.args == options


def test_the_tables_have_every_network(tiny_data_settings, tmp_path, monkeypatch, capsys):
    file = settings_file(tmp_path / "chain.yml", tiny_data_settings, name="mcan")
    loop = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 16}
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"train": loop}))
    monkeypatch.setattr(sys, "argv", ["learnability", "--settings", str(file), "--seeds", "2"])
    learnability.main()
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    for name in ("baseline: most frequent answer", "baseline: most frequent of form", *NETWORKS):
        assert sum(row.split("|")[1].strip() == name for row in rows) == 2
    assert "2 seeds, 2 steps, MCAN of 1 layers" in printed
