"""The supernet: at a sample it is the frozen network, and its exact step has the gradients of the plain form."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from model_space.architecture import Architecture
from model_space.operations import SelfAttention
from model_space.spaces import stacked
from model_space.spaces.stacked import StackedSettings
from tests.helpers.supernets import (
    FORMS,
    SPACES,
    STRATEGIES,
    assert_equal_to_frozen_at_a_sample,
    assert_gradients_of_the_plain_form,
    assert_padding_and_order_do_not_matter,
    step_at,
    supernet_of,
)
from tests.helpers.tiny import tiny_batch, tiny_space
from trainer.supernet.choices import (
    architecture_parameter,
    architecture_parameters,
    at_sample,
    derive,
    distribution,
    mixed_modules,
    sample,
    weighting,
)

each_space = pytest.mark.parametrize("form", SPACES.values(), ids=SPACES)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strategy", STRATEGIES)
@each_space
def test_supernet_at_a_sample_is_the_frozen_network(form, strategy, seed):
    assert_equal_to_frozen_at_a_sample(form, strategy, seed)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("seed", "together"), enumerate([0, 1000, 2**20, 0]))
@each_space
def test_exact_step_has_the_gradients_of_the_plain_form(form, together, seed, dropout, same_places, monkeypatch):
    assert_gradients_of_the_plain_form(form, together, seed, dropout, monkeypatch)


@each_space
def test_two_halves_of_a_batch_accumulate_to_the_gradients_of_the_whole(form):
    supernet = supernet_of(form)
    choices = tiny_space(form).random_choices(1)
    batch = tiny_batch(batch=4)
    whole = step_at(supernet, choices, batch)

    supernet.zero_grad()
    halves = []
    for half in (slice(0, 2), slice(2, 4)):
        with at_sample(supernet, choices) as samples:
            logits = supernet(*(part[half] for part in batch))
            target = torch.linspace(0, 1, 28, dtype=torch.float64).view(4, 7)[half]
            functional.binary_cross_entropy_with_logits(logits, target, reduction="sum").backward()
        halves.append(samples)
    for label, gradient in whole[2].items():
        torch.testing.assert_close(sum(half[label].grad for half in halves), gradient, rtol=1e-9, atol=1e-10)
    for name, p in supernet.named_parameters():
        torch.testing.assert_close(p.grad, whole[1][name], rtol=1e-9, atol=1e-10)


@each_space
def test_under_autocast_the_candidates_that_are_not_chosen_are_computed_in_its_type_too(form):
    supernet = supernet_of(form).float()
    choices = tiny_space(form).random_choices(2)
    batch = [part.float() if part.is_floating_point() else part for part in tiny_batch()]
    exact = step_at(supernet, choices, batch)[2]
    supernet.zero_grad()
    with at_sample(supernet, choices) as samples:
        with torch.autocast("cpu", torch.bfloat16):
            logits = supernet(*batch)
        target = torch.linspace(0, 1, logits.numel()).view_as(logits)
        functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="sum").backward()
    for label, one_hot in samples.items():
        if exact[label] is None:
            assert one_hot.grad is None
        else:
            scale = exact[label].abs().max() + 0.1
            torch.testing.assert_close(one_hot.grad / scale, exact[label] / scale, rtol=0, atol=0.1)


@each_space
def test_a_single_path_has_the_gradient_of_the_chosen_candidates_alone(form):
    choices = tiny_space(form).random_choices(3)
    batch = tiny_batch()
    both = [supernet_of(form, strategy) for strategy in ("single_path", "snas")]
    both[0].load_state_dict(both[1].state_dict())
    (loss, weights, single), (exact_loss, exact_weights, exact) = (step_at(each, choices, batch) for each in both)
    assert loss == exact_loss
    for name, gradient in exact_weights.items():
        torch.testing.assert_close(weights[name], gradient)
    with at_sample(both[0], choices) as samples:
        for label, sample in samples.items():
            if exact[label] is None:
                assert single[label] is None
            else:
                torch.testing.assert_close(single[label], exact[label] * sample)


def test_layers_of_one_label_share_the_sample_and_the_parameter():
    supernet = supernet_of(FORMS[0])
    by_label = {}
    for module in mixed_modules(supernet):
        by_label.setdefault(module.label, []).append(module)
    assert all(len(modules) == 2 for modules in by_label.values())  # one a cell
    for first, second in by_label.values():
        assert architecture_parameter(first) is architecture_parameter(second)
        assert weighting(first) is weighting(second)
    first, other = (modules[0] for modules in list(by_label.values())[:2])
    assert weighting(first) is not weighting(other)


def test_samples_follow_the_distribution():
    torch.manual_seed(1)
    module = mixed_modules(supernet_of(FORMS[1]))[0]
    parameter = architecture_parameter(module)
    parameter.data = torch.tensor([2.0, 1.0, 0.0, 0.0, -1.0])[: len(parameter)].double()
    counts = torch.zeros_like(architecture_parameter(module))
    for _ in range(3000):
        sample([weighting(module)], [architecture_parameter(module)], temperature=0.5)
        assert weighting(module).value[weighting(module).index] == 1
        counts += weighting(module).value.detach()
    torch.testing.assert_close(counts / 3000, architecture_parameter(module).softmax(-1).detach(), rtol=0, atol=0.04)


def test_derived_is_the_most_probable_and_the_order_is_the_networks():
    supernet = supernet_of(FORMS[1])
    for parameter in architecture_parameters(supernet).values():
        parameter.data = torch.arange(len(parameter), dtype=torch.float64)
    choices = derive(supernet)
    assert choices["image_node3_input"] == [2]
    assert choices["question_node1_operation"] == "guided_attention"
    assert list(distribution(supernet)) == list(dict.fromkeys(m.label for m in mixed_modules(supernet)))
    assert sum(distribution(supernet)["image_node2_operation"].values()) == pytest.approx(1)


@each_space
def test_padding_changes_nothing_and_the_order_of_regions_does_not_matter(form):
    assert_padding_and_order_do_not_matter(form)


@each_space
def test_one_region_one_token_one_question(form):
    for seed in range(3):
        network = Architecture(space=tiny_space(form), choices=tiny_space(form).random_choices(seed)).network().double()
        assert network(*tiny_batch(batch=1, regions=1, tokens=1)).isfinite().all()


@pytest.mark.parametrize("graph", ["rnn", "cnn"])
@pytest.mark.parametrize("edges", ["all", "one"])
def test_nothing_everywhere_is_defined(graph, edges):
    space = tiny_space(StackedSettings(graph=graph, edges=edges, cells=2, nodes=3))
    choices = {label: "none" if "none" in values else values[0] for label, values in space.candidates().items()}
    assert Architecture(space=space, choices=choices).network().double()(*tiny_batch()).isfinite().all()


class Halved(SelfAttention):
    """Inherits a way to be computed together that is not its own."""

    def forward(self, *inputs):
        return super().forward(*inputs) / 2


class Passing(nn.Sequential):
    """A module without modules: it has no length, and is a candidate all the same."""

    def forward(self, x, *others):
        return x


def test_candidates_of_ones_own_are_computed_as_they_are(same_places, monkeypatch):
    changed = {"identity": lambda sizes: Passing(), "self_attention": lambda sizes: Halved(16, 2, 0.0)}
    monkeypatch.setattr(stacked, "OPERATIONS", stacked.OPERATIONS | changed)
    test_exact_step_has_the_gradients_of_the_plain_form(FORMS[0], 2**20, 1, 0.0, same_places, monkeypatch)
