"""Recorded experiments of a few trials, of which a report can be written."""

import json
from collections.abc import Mapping
from pathlib import Path

import yaml
from rich.console import Console

from experiment.actions import report
from experiment.actions.report import COMPARISON
from experiment.results.comparison import RESULT
from experiment.results.report import Difference, Evaluated, save, verdict
from model_space.architecture import Architecture
from model_space.spaces.stacked import StackedSettings
from tests.helpers.nni_records import Records
from tests.helpers.tiny import space_of, tiny_network
from trainer.data.settings import DataSettings
from trainer.data.splits import Data
from trainer.train import TrainSettings, train

BACKBONE = StackedSettings(edges="one", cells=1, nodes=2)
EPOCHS = 3
NO_LABELS: Mapping[str, str] = {}


class Reported:
    """An experiment in a folder, with the configuration and the settings that it was started with.

    Args:
        folder: Gets `config.yml`, `settings.yml` and `runs`. A report is written from within it.
        data: The data of the settings.
        loaded: The same data.
        name: The id of the experiment.
        config: Keys of the configuration that are otherwise.
    """

    def __init__(self, folder: Path, data: DataSettings, loaded: Data, name: str = "abc", **config):
        self.folder, self.loaded = folder, loaded
        self.space = space_of(loaded, BACKBONE, dropout=0.3)
        content = {"data": data.model_dump(mode="json"), "space": BACKBONE.model_dump()}
        content["network"] = tiny_network().model_dump()
        (folder / "settings.yml").write_text(yaml.safe_dump(content))
        command = "python -m experiment.manager.trial settings.yml"
        self.config = {"trialCommand": command, "experimentWorkingDirectory": "runs"} | config
        (folder / "config.yml").write_text(yaml.safe_dump(self.config))
        self.records = Records(folder / "runs" / name, **self.config)

    def architecture(self, seed: int, **fields) -> Architecture:
        return Architecture(space=self.space, choices=self.space.random_choices(seed), **fields)

    def trial_folder(self, trial: str) -> Path:
        return self.records.folder / "environments" / "local-env" / "trials" / trial

    def running(
        self, trial: str, parameters: Mapping, epochs: int = EPOCHS, labels: Mapping[str, str] = NO_LABELS
    ) -> None:
        """A trial that has ended so many epochs of a search. ``labels`` are other names of its choices."""
        self.records.event(trial, "WAITING", dict(parameters))
        self.records.event(trial, "RUNNING")
        curve = []
        for epoch in range(1, epochs + 1):
            share = 0.5 + 0.4 * epoch / EPOCHS
            numbers = {"epoch": epoch, "epochs": EPOCHS, "entropy": 1 - 0.2 * epoch}
            self.records.metric(trial, {"default": 40.0 + epoch, **numbers}, sequence=epoch - 1)
            probabilities = {
                labels.get(label, label): {
                    labels.get(str(candidate), str(candidate)): share if not place else (1 - share) / (len(each) - 1)
                    for place, candidate in enumerate(c[0] if isinstance(c, list) else c for c in each)
                }
                for label, each in self.space.candidates().items()
                if len(each) > 1
            }
            curve.append({**numbers, "accuracy": 40.0 + epoch, "idle": 0.25, "probabilities": probabilities})
        search = self.trial_folder(trial) / "search"
        search.mkdir(parents=True)
        if epochs:
            (search / "curve.json").write_text(json.dumps(curve))
        (search / "run.json").write_text(json.dumps({"search": {"strategy": "snas", "seed": 0}}))

    def succeeded(self, trial: str, score: float, parameters: Mapping, **labels: str) -> None:
        """A trial that has found an architecture, the one of its score as a seed."""
        self.running(trial, parameters, labels=labels)
        provenance = {"experiment": self.records.folder.name, "trial": trial, "parameters": dict(parameters)}
        provenance |= {"versions": {"python": "3.11.0", "torch": "2.0"}, "seconds": 75.0}
        text = self.architecture(int(score), score=score, provenance=provenance).to_json()
        final = {"default": score, "architecture": text, "parameters": json.dumps(parameters)}
        self.records.metric(trial, final)
        self.records.event(trial, "SUCCEEDED", time=5_000_000)

    def failed(self, trial: str, parameters: Mapping, error: str) -> None:
        """A trial that failed before its first epoch."""
        self.running(trial, parameters, epochs=0)
        (self.trial_folder(trial) / "trial.stderr").write_text(error)
        self.records.event(trial, "FAILED")

    def compared(self, found: Architecture, rival: str = "MCAN, 1 layer") -> None:
        """What was found has been trained and compared; the file of the comparison is in this folder."""
        within = self.records.folder / "comparison"
        settings = TrainSettings(epochs=1, steps_per_epoch=2, batch_size=16)
        for name, accuracy in (("found", 62.0), ("mcan", 61.0), ("random-1", 50.0)):
            folder = within / f"{name}-seed0"
            if name == "found":
                train(self.loaded, found, settings, folder)
            folder.mkdir(exist_ok=True)
            (folder / RESULT).write_text(json.dumps({"overall": accuracy, "val": accuracy + 1}))
        ours = Evaluated("found architecture", 62.0, {"yes/no": 70.0}, 270_123, 97.4, 0.4)
        theirs = Evaluated(rival, 61.0, {"yes/no": 71.0}, 281_000, 88.0, 0.3)
        lead = [Difference(theirs, 1.0, (0.2, 1.9))]
        save([theirs, ours], 24, lead, verdict(ours, lead, 24, 3), self.records.folder.name, self.folder / COMPARISON)

    def whole(self) -> str:
        """The report of two trials that succeeded and one that failed, compared."""
        self.succeeded("T1", 40.0, {"strategy": "snas", "seed": 0})
        self.succeeded("T2", 60.0, {"strategy": "snas", "seed": 1})
        error = "Traceback (most recent call last):\n  x\nRuntimeError: no <b>\n"
        self.failed("T3", {"strategy": "snas", "seed": 2}, error)
        self.compared(self.architecture(60))
        return self.written()

    def written(self, experiment: str | None = None) -> str:
        """The report, written as `launch.py --report` does."""
        report.run(Console(quiet=True), experiment, config=self.folder / "config.yml")
        return (self.folder / "results/report.html").read_text()
