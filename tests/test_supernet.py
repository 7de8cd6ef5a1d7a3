"""The supernet: at a sample it is the frozen network, and its exact step has the gradients of the plain form."""

import pytest
import torch
from conftest import tiny_batch, tiny_space
from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedLayer
from torch import nn
from torch.nn import functional

from benchmarks.plain import plain
from model_space.architecture import Architecture, candidates, random_choices
from model_space.network import Network
from model_space.operations import SelfAttention
from model_space.spaces import stacked
from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import StackedSettings
from trainer.strategies.darts import Darts
from trainer.strategies.gumbel_darts import GumbelDarts
from trainer.strategies.single_path import SinglePath
from trainer.strategies.snas import Snas
from trainer.supernet.choices import (
    architecture_parameters,
    at_sample,
    derive,
    distribution,
    draw,
    entropy,
    mixed_modules,
)
from trainer.supernet.deferred import TOGETHER

FORMS = [StackedSettings(edges=edges, cells=2, nodes=3) for edges in ("all", "one")]
SPACES = {
    **{f"rnn {form.edges}": form for form in FORMS},
    **{f"cnn {form.edges}": form.model_copy(update={"graph": "cnn"}) for form in FORMS},
    "paired": PairedSettings(layers=3, memory_slots=2),
}
each_space = pytest.mark.parametrize("form", SPACES.values(), ids=SPACES)
STRATEGIES = {
    "snas": lambda: Snas(architecture_lr=1e-3, temperature=(1.0, 1.0)),
    "single_path": lambda: SinglePath(architecture_lr=1e-3, temperature=(1.0, 1.0)),
    "darts": lambda: Darts(architecture_lr=1e-3),
    "gumbel_darts": lambda: GumbelDarts(architecture_lr=1e-3, temperature=(1.0, 1.0)),
}


def supernet_of(form: StackedSettings, strategy: str = "snas", **network) -> Network:
    return STRATEGIES[strategy]().mutate_model(tiny_space(form, **network).build()).double()


def weights_at(supernet: Network, choices: dict) -> dict[str, torch.Tensor]:
    """The supernet's weights under the names of the network frozen at a sample."""
    layers = [(name, m) for name, m in supernet.named_modules() if isinstance(m, DifferentiableMixedLayer)]
    weights = {}
    for name, weight in supernet.state_dict().items():
        for prefix, layer in layers:
            if name.startswith(f"{prefix}."):
                candidate, _, rest = name.removeprefix(f"{prefix}.").partition(".")
                name = f"{prefix}.{rest}" if candidate == choices[layer.label] else ""
                break
        if name and not name.endswith("_arch_alpha"):
            weights[name] = weight
    return weights


def loss_of(network, batch) -> torch.Tensor:
    logits = network(*batch)
    target = torch.linspace(0, 1, logits.numel(), dtype=torch.float64).view_as(logits)
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strategy", STRATEGIES)
@each_space
def test_supernet_at_a_sample_is_the_frozen_network(form, strategy, seed):
    supernet = supernet_of(form, strategy)
    choices = random_choices(tiny_space(form), seed)
    frozen = Architecture(tiny_space(form), choices).network().double()
    frozen.load_state_dict(weights_at(supernet, choices))
    batch = tiny_batch()
    with at_sample(supernet, choices):
        loss = loss_of(supernet, batch)
        loss.backward()
    frozen_loss = loss_of(frozen, batch)
    frozen_loss.backward()
    torch.testing.assert_close(loss, frozen_loss, rtol=1e-10, atol=0)
    gradients = {name: p.grad for name, p in supernet.named_parameters()}
    at_choices = weights_at(supernet, choices).keys()
    by_pointer = {p.data_ptr(): name for name, p in supernet.named_parameters()}
    ours = {name: gradients[by_pointer[w.data_ptr()]] for name, w in weights_at(supernet, choices).items()}
    compared = 0
    for name, p in frozen.named_parameters():
        assert name in at_choices
        if p.grad is None:  # a node that nothing is computed from, after a `none`
            assert ours[name] is None or not ours[name].any()
        else:
            torch.testing.assert_close(ours[name], p.grad, rtol=1e-8, atol=1e-10)
            compared += 1
    assert compared > 10


def step_at(supernet, choices, batch):
    """The loss at a sample, and its gradients: of every weight, and of every label's one-hot."""
    supernet.zero_grad()
    with at_sample(supernet, choices) as samples:
        loss = loss_of(supernet, batch)
        loss.backward()
    one_hot = {label: sample.grad for label, sample in samples.items()}
    return loss, {n: p.grad for n, p in supernet.named_parameters()}, one_hot


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("seed", "together"), enumerate([0, 1000, 2**20, 0]))
@each_space
def test_exact_step_has_the_gradients_of_the_plain_form(form, together, seed, dropout, same_places, monkeypatch):
    """Every candidate computed and multiplied by its entry of the one-hot, in the plain form of everything; with
    dropout at the same places. Here the candidates that are not chosen are computed one by one or together."""
    monkeypatch.setitem(TOGETHER, "cpu", together)
    supernet = supernet_of(form, dropout=dropout, channel_dropout=dropout)
    choices = random_choices(tiny_space(form), seed)
    batch = tiny_batch()
    exact_loss, exact_weights, exact_one_hot = step_at(supernet, choices, batch)
    with plain():
        plain_loss, plain_weights, plain_one_hot = step_at(supernet, choices, batch)

    torch.testing.assert_close(exact_loss, plain_loss, rtol=1e-12, atol=0)
    assert any(gradient.any() for gradient in plain_one_hot.values())
    for label, gradient in plain_one_hot.items():
        exact = torch.zeros_like(gradient) if exact_one_hot[label] is None else exact_one_hot[label]
        torch.testing.assert_close(exact, gradient, rtol=1e-10, atol=1e-10)
    for name, gradient in plain_weights.items():
        if exact_weights[name] is None:
            assert gradient is None or not gradient.any(), name
        else:
            torch.testing.assert_close(exact_weights[name], gradient, rtol=1e-10, atol=1e-10)


@each_space
def test_two_halves_of_a_batch_accumulate_to_the_gradients_of_the_whole(form):
    supernet = supernet_of(form)
    choices = random_choices(tiny_space(form), 1)
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
    choices = random_choices(tiny_space(form), 2)
    batch = [part.float() if part.is_floating_point() else part for part in tiny_batch()]
    exact = step_at(supernet, choices, batch)[2]
    supernet.zero_grad()
    with at_sample(supernet, choices) as samples:
        with torch.autocast("cpu", torch.bfloat16):
            logits = supernet(*batch)
        target = torch.linspace(0, 1, logits.numel()).view_as(logits)
        functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="sum").backward()
    for label, sample in samples.items():
        if exact[label] is None:
            assert sample.grad is None
        else:
            scale = exact[label].abs().max() + 0.1
            torch.testing.assert_close(sample.grad / scale, exact[label] / scale, rtol=0, atol=0.1)


@each_space
def test_a_single_path_has_the_gradient_of_the_chosen_candidates_alone(form):
    choices = random_choices(tiny_space(form), 3)
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


def test_layers_of_one_label_share_the_draw_and_the_parameter():
    supernet = supernet_of(FORMS[0])
    by_label = {}
    for module in mixed_modules(supernet):
        by_label.setdefault(module.label, []).append(module)
    assert all(len(modules) == 2 for modules in by_label.values())  # one a cell
    for first, second in by_label.values():
        assert first._arch_alpha is second._arch_alpha
        assert first._softmax is second._softmax
    first, other = (modules[0] for modules in list(by_label.values())[:2])
    assert first._softmax is not other._softmax


def test_draws_follow_the_distribution():
    torch.manual_seed(1)
    module = mixed_modules(supernet_of(FORMS[1]))[0]
    module._arch_alpha.data = torch.tensor([2.0, 1.0, 0.0, 0.0, -1.0])[: len(module._arch_alpha)].double()
    counts = torch.zeros_like(module._arch_alpha)
    for _ in range(3000):
        draw([module._softmax], [module._arch_alpha], temperature=0.5)
        assert module._softmax.value[module._softmax.index] == 1
        counts += module._softmax.value.detach()
    torch.testing.assert_close(counts / 3000, module._arch_alpha.softmax(-1).detach(), rtol=0, atol=0.04)


def test_derived_is_the_most_probable_and_the_order_is_the_networks():
    supernet = supernet_of(FORMS[1])
    for parameter in architecture_parameters(supernet).values():
        parameter.data = torch.arange(len(parameter), dtype=torch.float64)
    choices = derive(supernet)
    assert choices["image_node3_input"] == [2]
    assert choices["question_node1_operation"] == "guided_attention"
    assert list(distribution(supernet)) == list(dict.fromkeys(m.label for m in mixed_modules(supernet)))
    assert sum(distribution(supernet)["image_node2_operation"].values()) == pytest.approx(1)


def test_entropy_is_one_where_nothing_is_decided_and_zero_where_all_is():
    assert entropy({"a": {"x": 0.5, "y": 0.5}, "b": {"0": 1.0}}) == pytest.approx(1)
    assert entropy({"a": {"x": 1.0, "y": 0.0}}) == 0


@each_space
def test_padding_changes_nothing_and_the_order_of_regions_does_not_matter(form):
    space = tiny_space(form)
    for seed in range(3):
        network = Architecture(space, random_choices(space, seed)).network().double().eval()
        regions, region_mask, tokens, token_mask, boxes = tiny_batch()
        answer = network(regions, region_mask, tokens, token_mask, boxes)
        padding = ~region_mask[..., None]
        other = network(regions + 5 * padding, region_mask, tokens, token_mask, boxes + 7 * padding)
        torch.testing.assert_close(other, answer)
        torch.testing.assert_close(network(regions, region_mask, tokens + 3 * ~token_mask, token_mask, boxes), answer)
        order = torch.randperm(regions.size(1))
        moved = network(regions[:, order], region_mask[:, order], tokens, token_mask, boxes[:, order])
        torch.testing.assert_close(moved, answer)
        for row in range(3):  # alone and trimmed, as in the batch
            n, t = region_mask[row].sum(), token_mask[row].sum()
            alone = [regions[row : row + 1, :n], region_mask[row : row + 1, :n]]
            alone += [tokens[row : row + 1, :t], token_mask[row : row + 1, :t], boxes[row : row + 1, :n]]
            torch.testing.assert_close(network(*alone)[0], answer[row])


@each_space
def test_one_region_one_token_one_question(form):
    for seed in range(3):
        network = Architecture(tiny_space(form), random_choices(tiny_space(form), seed)).network().double()
        assert network(*tiny_batch(batch=1, regions=1, tokens=1)).isfinite().all()


@pytest.mark.parametrize("graph", ["rnn", "cnn"])
@pytest.mark.parametrize("edges", ["all", "one"])
def test_nothing_everywhere_is_defined(graph, edges):
    space = tiny_space(StackedSettings(graph=graph, edges=edges, cells=2, nodes=3))
    choices = {label: "none" if "none" in values else values[0] for label, values in candidates(space).items()}
    assert Architecture(space, choices).network().double()(*tiny_batch()).isfinite().all()


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
