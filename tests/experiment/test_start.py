"""What a trial loads before its first step: nothing that it does not need."""

import gc
import json
import subprocess
import sys

import pytest
import yaml

from experiment.start import without_collector
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tiny_network
from trainer.data.digits.generate import generate
from trainer.data.digits.settings import DigitsSettings

TRIAL = """
import json, sys
from pathlib import Path
from experiment.manager.trial import search
architecture = search(sys.argv[1], {"seed": 1}, Path(sys.argv[2]), lambda epoch: None)
import gc
json.dump({"modules": list(sys.modules), "collects": gc.isenabled(), "frozen": gc.get_freeze_count()}, sys.stdout)
"""


def test_a_trial_on_data_that_is_there_loads_neither_scikit_learn_nor_what_other_commands_need(tmp_path):
    digits = DigitsSettings(folder=tmp_path / "digits", train_scenes=8, val_scenes=4, test_scenes=4)
    folder = generate(digits)
    splits = {"train": "train2014", "val": "val2014"}
    data = {
        split: {
            "questions": str(folder / f"v2_OpenEnded_mscoco_{name}_questions.json"),
            "annotations": str(folder / f"v2_mscoco_{name}_annotations.json"),
            "features": str(folder / name),
        }
        for split, name in splits.items()
    }
    content = {
        "data": {"digits": digits.model_dump(mode="json"), "min_answer_count": 1, **data},
        "space": {"name": "stacked", "edges": "one", "cells": 1, "nodes": 1},
        "network": tiny_network().model_dump(),
        "search": {"epochs": 1, "steps_per_epoch": 1, "batch_size": 4},
    }
    file = tmp_path / "settings.yml"
    file.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-c", TRIAL, file, tmp_path / "trial"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    modules = set(found["modules"])
    assert "experiment.manager.trial" in modules and "trainer.search" in modules
    packages = {module.split(".")[0] for module in modules}
    # TensorBoard is there after the first epoch, and not before.
    assert not packages & {"sklearn", "joblib", "torchvision", "IPython", "pytest"}
    ours = ("manager.control", "manager.follow", "actions", "results.comparison", "results.curves", "results.report")
    ours += ("results.card", "architectures")
    assert not modules & {*(f"experiment.{name}" for name in ours), "trainer.step_profile"}
    assert found["collects"] and found["frozen"] > 100_000


def test_cycles_are_collected_again_afterwards_also_after_an_error():
    try:
        with without_collector():
            assert not gc.isenabled()
        assert gc.isenabled() and gc.get_freeze_count()
        with pytest.raises(ValueError), without_collector():
            raise ValueError
        assert gc.isenabled()
    finally:
        gc.unfreeze()
