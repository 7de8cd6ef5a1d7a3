"""Supernets at tiny sizes, and the properties that every space must have."""

import torch
from torch.nn import functional

from benchmarks.plain import plain
from model_space.architecture import Architecture
from model_space.network import Network
from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.tiny import tiny_batch, tiny_space
from trainer.strategies.darts import Darts
from trainer.strategies.gumbel_darts import GumbelDarts
from trainer.strategies.progressive_shrinking import ProgressiveShrinking
from trainer.strategies.proxyless import Proxyless
from trainer.strategies.random_one_shot import RandomOneShot
from trainer.strategies.single_path import SinglePath
from trainer.strategies.snas import Snas
from trainer.supernet.choices import at_sample, weights_at
from trainer.supernet.deferred import TOGETHER

FORMS = [StackedSettings(edges=edges, cells=2, nodes=3) for edges in ("all", "one")]
SPACES = {
    **{f"rnn {form.edges}": form for form in FORMS},
    **{f"cnn {form.edges}": form.model_copy(update={"graph": "cnn"}) for form in FORMS},
    "rnn one, relational": StackedSettings(edges="one", cells=2, nodes=3, relation_size=4),
    "paired": PairedSettings(layers=3, memory_slots=2),
}
STRATEGIES = {
    "snas": lambda: Snas(architecture_lr=1e-3, temperature=(1.0, 1.0)),
    "single_path": lambda: SinglePath(architecture_lr=1e-3, temperature=(1.0, 1.0)),
    "progressive_shrinking": lambda: ProgressiveShrinking(whole=0.4, shrinking=0.4, architecture_lr=0.01),
    "random_one_shot": lambda: RandomOneShot(sampling="fair"),
    "proxyless": lambda: Proxyless(architecture_lr=1e-3, still_epochs=1, architecture_every=2),
    "darts": lambda: Darts(architecture_lr=1e-3),
    "gumbel_darts": lambda: GumbelDarts(architecture_lr=1e-3, temperature=(1.0, 1.0)),
}


def supernet_of(form: StackedSettings, strategy: str = "snas", **network) -> Network:
    return STRATEGIES[strategy]().mutate_model(tiny_space(form, **network).build()).double()


def loss_of(network, batch) -> torch.Tensor:
    logits = network(*batch)
    target = torch.linspace(0, 1, logits.numel(), dtype=torch.float64).view_as(logits)
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")


def assert_equal_to_frozen_at_a_sample(form, strategy, seed):
    supernet = supernet_of(form, strategy)
    choices = tiny_space(form).random_choices(seed)
    frozen = Architecture(space=tiny_space(form), choices=choices).network().double()
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


def assert_gradients_of_the_plain_form(form, together, seed, dropout, monkeypatch):
    """Every candidate computed and multiplied by its entry of the one-hot, in the plain form of everything; with
    dropout at the same places. Here the candidates that are not chosen are computed one by one or together."""
    monkeypatch.setitem(TOGETHER, "cpu", together)
    supernet = supernet_of(form, dropout=dropout, channel_dropout=dropout)
    choices = tiny_space(form).random_choices(seed)
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


def assert_padding_and_order_do_not_matter(form):
    space = tiny_space(form)
    for seed in range(3):
        network = Architecture(space=space, choices=space.random_choices(seed)).network().double().eval()
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
