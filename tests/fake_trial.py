"""A trial without a network: what experiment/trial.py does around a search, with epochs as short as one likes.

    python -m tests.fake_trial
"""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from experiment import trial
from model_space.errors import InputError

EPOCHS = 4


@dataclass
class FakeArchitecture:
    """Has the JSON of an architecture; to import the real one would load torch, which takes seconds."""

    score: float
    operation: str
    provenance: dict = field(default_factory=dict)

    def to_json(self) -> str:
        sizes = {"hidden": 8, "heads": 2, "word_size": 8, "flat_inner": 8, "flat_size": 8, "dropout": 0.0}
        sizes |= {"channel_dropout": 0.0, "region_norm": True, "feature_size": 4, "words": 5, "answers": 3}
        choices = {"image_node1_input": [0], "image_node1_operation": self.operation}
        choices |= {"question_node1_input": [0], "question_node1_operation": "identity"}
        space = {"name": "stacked", "edges": "one", "cells": 1, "nodes": 1, **sizes}
        content = {"format": 1, "space": space, "choices": choices, "score": self.score, "provenance": self.provenance}
        return json.dumps(content)


def search(parameters, folder: Path, report) -> FakeArchitecture:
    """Keeps its place in a file, as a checkpoint does; the score depends on every epoch and on their order."""
    folder.mkdir(exist_ok=True)
    place = folder / "place.json"
    scores = json.loads(place.read_text()) if place.exists() else [parameters["seed"]]
    for epoch in range(len(scores), EPOCHS + 1):
        time.sleep(parameters.get("pause", 0.3))
        if parameters.get("fails"):
            raise InputError("data/nowhere.json: no such file")
        scores.append(scores[-1] * 1.5 + epoch)
        report({"epoch": epoch, "epochs": EPOCHS, "accuracy": scores[-1], "loss": 1 / epoch, "probabilities": {"a": 1}})
        place.write_text(json.dumps(scores))
    return FakeArchitecture(scores[-1], "identity" if parameters["seed"] else "feed_forward")


if __name__ == "__main__":
    try:
        trial.run("settings/fake.yml", search)
    except InputError as error:
        sys.exit(str(error))
