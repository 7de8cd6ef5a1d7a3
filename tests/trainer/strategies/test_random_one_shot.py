"""Random one-shot: which paths a step trains."""

import torch

from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import ignore, search_settings
from tests.helpers.tiny import space_of
from trainer.search import run, search
from trainer.strategies.random_one_shot import RandomOneShotModule

SPACE = StackedSettings(edges="one", cells=1, nodes=2)


def module_of(data, sampling: str) -> RandomOneShotModule:
    """Returns the module of a search after its only step."""
    settings = search_settings("random_one_shot", sampling=sampling, epochs=1, steps_per_epoch=1, batch_size=16, seed=4)
    return run(data, space_of(data, SPACE), settings, [], None)


def test_a_fair_step_takes_every_candidate_once(tiny_data):
    module = module_of(tiny_data, "fair")
    paths = module.passes(0)
    assert len(paths) == 5
    for place, parameter in enumerate(module.candidates):
        taken = sorted(only for path in paths for only in path[place])
        assert set(taken) == set(range(len(parameter))) and (len(parameter) < 5 or taken == [0, 1, 2, 3, 4])
    assert module.passes(0) != paths  # another step takes them in another order


def test_a_uniform_step_takes_one_path_and_all_in_the_end(tiny_data):
    module = module_of(tiny_data, "uniform")
    taken = [module.passes(0) for _ in range(300)]
    assert all(len(paths) == 1 for paths in taken)
    for place, parameter in enumerate(module.candidates):
        counts = torch.bincount(torch.tensor([paths[0][place][0] for paths in taken]), minlength=len(parameter))
        assert (counts > 300 / len(parameter) / 2).all()


def test_fair_paths_train_more_candidates_in_a_step_than_one_path_does(tiny_data):
    def trained(sampling: str) -> int:
        module = module_of(tiny_data, sampling)
        return sum(parameter.grad is not None and bool(parameter.grad.any()) for parameter in module.model.parameters())

    assert trained("fair") > trained("uniform")


def test_its_architecture_is_the_best_of_samples(tiny_data, tmp_path):
    settings = search_settings("random_one_shot", epochs=1, steps_per_epoch=2, batch_size=16)
    found = search(tiny_data, space_of(tiny_data, SPACE), settings, tmp_path, ignore)
    assert 0 < found.score <= 100
