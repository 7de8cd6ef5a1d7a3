"""A trial without a network: what experiment/manager/trial.py does around a search, with epochs as short as one likes.

python -m tests.helpers.fake_trial ARCHITECTURE
"""

import json
import sys
import time
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from experiment.manager import trial
from model_space.errors import InputError

EPOCHS = 4


class FakeArchitecture(BaseModel):
    """What a trial uses of an architecture; to import the real one would load torch, which takes seconds."""

    content: dict
    score: float
    provenance: dict = {}

    def to_json(self) -> str:
        return json.dumps(self.content | {"score": self.score, "provenance": self.provenance})


def search(architecture: str, parameters: dict, folder: Path, report) -> FakeArchitecture:
    """Keeps its place in a file, as a checkpoint does; the score depends on every epoch and on their order."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "place.json"
    scores = json.loads(place.read_text()) if place.exists() else [parameters["seed"]]
    for epoch in range(len(scores), EPOCHS + 1):
        time.sleep(parameters["pause"])
        if parameters["strategy"] == "fails":
            raise InputError("data/nowhere.json: no such file")
        scores.append(scores[-1] * 1.5 + epoch)
        report({"epoch": epoch, "epochs": EPOCHS, "accuracy": scores[-1], "loss": 1 / epoch, "probabilities": {"a": 1}})
        place.write_text(json.dumps(scores))
    return FakeArchitecture(content=json.loads(Path(architecture).read_text()), score=scores[-1])


if __name__ == "__main__":
    try:
        trial.run("settings/fake.yml", partial(search, sys.argv[1]))
    except InputError as error:
        sys.exit(str(error))
