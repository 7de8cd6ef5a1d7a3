"""A trial without a network: what experiment/trial.py does around a search, in milliseconds an epoch."""

import json
import os
import sys
import time
from pathlib import Path

from experiment import trial
from model_space.architecture import Architecture, SpaceFields, random_choices
from model_space.errors import InputError
from model_space.network import DataSizes, NetworkSettings
from model_space.stacked import StackedSettings

EPOCHS = 4


def search(parameters, folder: Path, report) -> Architecture:
    """Keeps its place in a file, as a checkpoint does; its score says which epochs it went through, in order."""
    folder.mkdir(exist_ok=True)
    place = folder / "place.json"
    scores = json.loads(place.read_text()) if place.exists() else []
    for epoch in range(len(scores) + 1, EPOCHS + 1):
        time.sleep(parameters["pause"])
        if parameters.get("fails") and epoch == 2:
            raise InputError("data/nowhere: no such file")
        scores.append((scores[-1] if scores else parameters["seed"]) * 1.5 + epoch)
        report({"epoch": epoch, "epochs": EPOCHS, "accuracy": scores[-1], "loss": 1 / epoch, "probabilities": {"a": [1]}})
        place.write_text(json.dumps(scores))
    fields = SpaceFields(
        backbone=StackedSettings(name="stacked"), network=NetworkSettings(), data=DataSizes(feature_size=4, words=5, answers=3)
    )
    return Architecture(fields, random_choices(fields, parameters["seed"]), scores[-1])


if __name__ == "__main__":
    try:
        trial.run("settings/fake.yml", search)
    except InputError as error:
        sys.exit(str(error))
