"""Which trial of an experiment is the best one, and its architecture."""

import math
from collections.abc import Sequence

from experiment.manager.records import Experiment, Trial
from model_space.architecture import Architecture
from model_space.errors import InputError


def score(trial: Trial) -> float | None:
    """Returns the score of a trial in percent; None where it has none, or none that is a number."""
    found = trial.final.get("default") if trial.final else None
    return found if isinstance(found, int | float) and math.isfinite(found) else None


def best_first(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the trials by their scores; those without one are last, in the order in which they were started."""
    return sorted(trials, key=lambda trial: (score(trial) is None, -(score(trial) or 0)))


def best_architecture(experiment: Experiment) -> Architecture:
    """Returns the architecture with the highest score among those that an experiment's trials have reported so far.

    Each trial reported its architecture together with its score, so that both belong together whatever NNI's other
    tables say.

    Raises:
        InputError: No trial has ended with a result, or the best result is no architecture.
    """
    trial = next(iter(best_first(experiment.trials)), None)
    if trial is None or trial.final is None or score(trial) is None:
        raise InputError(
            f"experiment {experiment.id}: no trial has finished yet, so there is no architecture to export"
        )
    where = f"experiment {experiment.id}, trial {trial.id}"
    if not isinstance(trial.final.get("architecture"), str):
        raise InputError(f"{where}: reported no architecture; it is not a search of this package")
    return Architecture.from_json(trial.final["architecture"], where)
