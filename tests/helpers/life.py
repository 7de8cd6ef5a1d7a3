"""An architecture's whole life on the tiny data: search, file, training, evaluation."""

from pathlib import Path

from model_space.architecture import Architecture
from tests.helpers.searching import search_settings
from tests.helpers.tiny import space_of
from trainer.data.settings import DataSettings
from trainer.data.splits import Data, load_split
from trainer.evaluation.evaluate import evaluate
from trainer.search import search
from trainer.train import TrainSettings, load_trained, train

FEW = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 16, "lr": 1e-3}


def searched(data: Data, space, strategy: str, folder: Path, **changes) -> Architecture:
    """The architecture that a search of two steps finds; ``changes`` are of the encoder and the network."""
    settings, reported = search_settings(strategy=strategy, **FEW), []
    whole_space = space_of(data, space, **changes)
    found = search(data, whole_space, settings, folder, reported.append)
    assert [epoch["epoch"] for epoch in reported] == [1]
    assert found.choices.keys() == whole_space.candidates().keys()
    return found


def trained_and_evaluated(data: Data, data_settings: DataSettings, architecture: Architecture, folder: Path) -> float:
    """Writes and reads its file, trains it for two steps, evaluates the checkpoint: its accuracy in percent."""
    architecture.save(folder / "architecture.json")
    loaded = Architecture.load(folder / "architecture.json")
    assert loaded == architecture
    network, vocabulary, of_checkpoint = load_trained(train(data, loaded, TrainSettings(**FEW), folder / "train"))
    assert of_checkpoint.choices == architecture.choices
    return evaluate(network, load_split(data_settings, data_settings.val, vocabulary)).overall
