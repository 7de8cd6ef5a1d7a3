"""All private names of NNI's manager that this package needs; NNI 3.0 has no public way to do what they do."""

from collections.abc import Callable
from typing import Any

import nni.trial
from nni.experiment import Experiment, launcher


def set_action(experiment: Experiment, action: str) -> None:
    """Makes ``experiment.start`` create, resume or view an experiment, as ``nnictl`` does.

    NNI's own ``resume()`` would end the manager together with the process that calls it.
    """
    experiment._action = action


def set_wait_for_manager(wait: Callable[..., None]) -> None:
    """Replaces how NNI waits for its manager: it gives up after three seconds, which a busy machine exceeds."""
    launcher._check_rest_server = wait


def set_parameters(record: dict[str, Any]) -> None:
    """Replaces the record of parameters with which this trial reports its metrics."""
    nni.trial._params = record
