"""The tuner of regularized evolution (Real et al., 2019, arXiv 1802.01548, algorithm 1)."""

import math
import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import nni
from nni.tuner import Tuner
from nni.utils import extract_scalar_reward

from experiment.manager.lifeline import end_with_manager

Parameters = dict[str, Any]


class RegularizedEvolution(Tuner):
    """Mutates the best of a sample of the population, to which the child comes and in which the oldest one dies.

    NNI's tuner of that name reads no search space of `choice`; its `Evolution` is another algorithm, without age and
    without a seed, and an experiment that is resumed begins it anew. This one knows what finished before. It gives no
    combination out twice: a child that was there is mutated once more.

    Args:
        population: Number of combinations that are alive; so many are random at first.
        sample: Number of them that are drawn, with replacement, for the best to be the parent.
        seed: Of the random numbers.

    Raises:
        ValueError: The population or the sample is empty.
    """

    def __init__(self, population: int = 8, sample: int = 4, seed: int = 0):
        end_with_manager()
        for name, value in (("population", population), ("sample", sample)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"tuner.classArgs.{name}: {value!r}, expected a whole number of at least 1")
        self._population: deque[tuple[Parameters, float]] = deque(maxlen=population)
        self._at_random, self._sample = population, sample
        self._random = random.Random(seed)
        self._given: set[str] = set()

    def update_search_space(self, space: dict[str, Any]) -> None:
        self._candidates: dict[str, Sequence[Any]] = {label: spec["_value"] for label, spec in space.items()}
        self._size = math.prod(map(len, self._candidates.values()))

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> Parameters:
        if len(self._given) == self._size:
            raise nni.NoMoreTrialError("all combinations have been tried")
        if len(self._given) < self._at_random or not self._population:
            child = {label: self._random.choice(candidates) for label, candidates in self._candidates.items()}
        else:
            parent, _ = max(self._random.choices(self._population, k=self._sample), key=lambda each: each[1])
            child = self._mutated(parent)
        while self._key(child) in self._given:
            child = self._mutated(child)
        self._given.add(self._key(child))
        return child

    def _mutated(self, parent: Parameters) -> Parameters:
        """Returns the parameters with another candidate at one place."""
        label = self._random.choice([label for label, candidates in self._candidates.items() if len(candidates) > 1])
        others = [candidate for candidate in self._candidates[label] if candidate != parent[label]]
        return parent | {label: self._random.choice(others)}

    @staticmethod
    def _key(parameters: Parameters) -> str:
        return nni.dump(parameters, sort_keys=True)

    def receive_trial_result(self, parameter_id: int, parameters: Parameters, value: Any, **kwargs: Any) -> None:
        self._population.append((parameters, extract_scalar_reward(value)))

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Takes over the trials that had finished when the experiment was interrupted."""
        for trial in data:
            self._given.add(self._key(trial["parameter"]))
            self._population.append((trial["parameter"], extract_scalar_reward(trial["value"])))
