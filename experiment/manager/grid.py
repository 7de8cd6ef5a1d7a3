"""The tuner that gives out every combination of the search space once."""

import os
from pathlib import Path
from typing import Any

import nni
from nni.algorithms.hpo.gridsearch_tuner import GridSearchTuner

from experiment.manager import records
from experiment.manager.lifeline import end_with_manager


class Grid(GridSearchTuner):
    """NNI's grid search, safe to interrupt.

    NNI tells a tuner of a resumed experiment which trials have finished, but not which ones were interrupted and
    run again: its grid search gives their parameters out a second time, and never comes to the last ones.
    """

    def __init__(self) -> None:
        super().__init__()
        end_with_manager()

    def update_search_space(self, space: dict[str, Any]) -> None:
        super().update_search_space(space)
        # NNI runs its tuner in the experiment's log folder.
        for trial in records.read(Path(os.environ["NNI_LOG_DIRECTORY"]).parent).trials:
            self.history.add(nni.dump(trial.record["parameters"], sort_keys=True))
