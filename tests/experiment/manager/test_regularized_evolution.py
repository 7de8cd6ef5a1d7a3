"""Regularized evolution: the best of a sample has a child, the oldest dies, nothing is tried twice, and it resumes."""

import itertools
import random

import nni
import pytest

from experiment.manager.regularized_evolution import RegularizedEvolution

SPACE = {
    "block1": {"_type": "choice", "_value": ["a", "b", "c", "d"]},
    "block2": {"_type": "choice", "_value": ["a", "b", "c", "d"]},
    "input": {"_type": "choice", "_value": [[0], [1], [2]]},
    "fixed": {"_type": "choice", "_value": ["only"]},
}
COMBINATIONS = 4 * 4 * 3


def tuner(**arguments) -> RegularizedEvolution:
    made = RegularizedEvolution(**arguments)
    made.update_search_space(SPACE)
    return made


def worth(parameters: dict) -> float:
    return "abcd".index(parameters["block1"]) + "abcd".index(parameters["block2"]) + parameters["input"][0] / 2


def ask(made: RegularizedEvolution, number: int) -> dict:
    parameters = made.generate_parameters(number)
    made.receive_trial_result(number, parameters, {"default": worth(parameters)})
    return parameters


def differences(one: dict, other: dict) -> int:
    return sum(one[label] != other[label] for label in SPACE)


def test_it_gives_every_combination_once_and_then_no_more():
    made = tuner(population=4, sample=2)
    given = [ask(made, number) for number in range(COMBINATIONS)]
    assert len({nni.dump(each) for each in given}) == COMBINATIONS
    with pytest.raises(nni.NoMoreTrialError):
        made.generate_parameters(COMBINATIONS)


@pytest.mark.parametrize("name", ["population", "sample"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "8"])
def test_an_empty_population_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"tuner\.classArgs\.{name}: {value!r}, expected"):
        tuner(**{name: value})


def test_a_seed_gives_the_same_search_and_another_seed_another():
    one, same, other = (tuner(seed=seed) for seed in (1, 1, 2))
    given = [[ask(made, number) for number in range(30)] for made in (one, same, other)]
    assert given[0] == given[1] != given[2]


def test_children_are_mutations_of_those_that_are_alive():
    """With a sample of many the best of the population is the parent, and only of the population."""
    made = tuner(population=3, sample=50, seed=4)
    given = [ask(made, number) for number in range(12)]
    for number, child in itertools.islice(enumerate(given), 3, None):
        alive = given[number - 3 : number]
        best = max(worth(each) for each in alive)
        nearest = min(differences(child, each) for each in alive if worth(each) == best)
        tried = [each for each in given[:number] if differences(each, child) <= 1]
        assert nearest == 1 or tried, (number, child)  # further away only where a nearer one had been tried


def test_the_oldest_one_dies_even_if_it_is_the_best():
    made = tuner(population=2, sample=50)
    oldest = {"block1": "d", "block2": "d", "input": [2], "fixed": "only"}
    alive = [
        oldest | {"block1": "a", "block2": "a", "input": [0]},
        oldest | {"block1": "b", "block2": "b", "input": [0]},
    ]
    made.import_data([{"parameter": each, "value": worth(each)} for each in (oldest, *alive)])
    child = made.generate_parameters(0)
    assert differences(child, alive[1]) == 1 < differences(child, oldest)


def test_it_finds_more_than_random_draws_do():
    def best(made: RegularizedEvolution) -> float:
        return max(worth(ask(made, number)) for number in range(16))

    def best_random(seed: int) -> float:
        generator = random.Random(seed)
        return max(worth({name: generator.choice(spec["_value"]) for name, spec in SPACE.items()}) for _ in range(16))

    evolved = sum(best(tuner(population=6, sample=3, seed=seed)) for seed in range(40)) / 40
    assert evolved > sum(map(best_random, range(40))) / 40 + 0.2


def test_what_had_finished_before_is_taken_over():
    made = tuner(population=2, sample=10)
    best = {"block1": "d", "block2": "d", "input": [2], "fixed": "only"}
    others = [best | {"block1": "a", "block2": "a"}, best]
    made.import_data([{"parameter": each, "value": {"default": worth(each)}} for each in others])
    child = made.generate_parameters(0)
    assert differences(child, best) == 1


def test_trials_that_run_at_the_same_time_are_random_until_one_has_finished():
    made = tuner(population=2)
    asked = [made.generate_parameters(number) for number in range(8)]
    assert len({nni.dump(each) for each in asked}) == 8
