"""The best architecture of an experiment."""

from pathlib import Path

from experiment.manager import records
from model_space.architecture import Architecture
from model_space.errors import InputError


def best(working_directory: Path, experiment: str | None = None) -> Architecture:
    """The architecture with the highest score among those that an experiment's trials have reported so far.

    The experiment may run, be stopped, or have finished; None takes the one that was started last. Each trial
    reported its architecture together with its score, so that both belong together whatever NNI's other tables say.

    Raises:
        InputError: no such experiment, no trial of it has ended with a result, or that result is no architecture.
    """
    folder = records.find(working_directory, experiment)
    results = {trial.id: trial.final for trial in records.read(folder).trials if trial.final}
    if not results:
        raise InputError(f"experiment {folder.name}: no trial has finished yet, so there is no architecture to export")
    trial, result = max(results.items(), key=lambda item: item[1]["default"])
    where = f"experiment {folder.name}, trial {trial}"
    if not isinstance(result.get("architecture"), str):
        raise InputError(f"{where}: reported no architecture; it is not a search of this package")
    return Architecture.from_json(result["architecture"], where)
