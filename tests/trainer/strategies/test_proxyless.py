"""Proxyless: how gates are sampled, what their gradient is, and when the architecture moves."""

from contextlib import nullcontext

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from benchmarks.plain import plain
from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import search_settings
from tests.helpers.supernets import loss_of, supernet_of
from tests.helpers.tiny import space_of, tiny_batch
from trainer.search import run
from trainer.strategies.proxyless import binary_gates
from trainer.supernet.choices import architecture_parameter, gumbel, mixed_modules, set_samples, weighting

SPACE = StackedSettings(edges="one", cells=1, nodes=2)


def test_a_gate_is_sampled_of_the_softmax_and_has_its_gradient():
    alpha = nn.Parameter(torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64))
    taken = torch.zeros(3, dtype=torch.float64)
    for _ in range(2000):
        gates, (position,) = binary_gates([alpha], gumbel)
        assert gates.detach()[0].tolist() == pytest.approx(torch.eye(3)[position].tolist())
        taken[position] += 1
    torch.testing.assert_close(taken / 2000, alpha.detach().softmax(0), atol=0.04, rtol=0)
    of_gates = torch.tensor([0.3, -2.0, 1.0], dtype=torch.float64)
    (gates[0] @ of_gates).backward()
    p = alpha.detach().softmax(0)
    by_hand = torch.stack([sum(of_gates[j] * p[j] * (float(i == j) - p[i]) for j in range(3)) for i in range(3)])
    torch.testing.assert_close(alpha.grad, by_hand)


def test_choices_of_different_sizes_are_padded_with_what_is_never_sampled():
    alphas = [torch.zeros(2, requires_grad=True), torch.zeros(5, requires_grad=True)]
    for _ in range(50):
        gates, positions = binary_gates(alphas, gumbel)
        assert positions[0] < 2 and gates.shape == (2, 5) and (gates[0, 2:] == 0).all()


def test_the_architecture_has_the_gradient_that_computing_every_candidate_gives():
    """The gates' gradient of the deferred products is that of Σ_k g_k f_k(x) with every f_k under autograd."""

    def gradients(form) -> list[torch.Tensor]:
        torch.manual_seed(5)
        supernet = supernet_of(SPACE, "proxyless")
        batch = tiny_batch()
        modules = {module.label: module for module in mixed_modules(supernet)}
        alphas = [architecture_parameter(module) for module in modules.values()]
        sampled, positions = binary_gates(alphas, gumbel)
        gates = sampled.detach().requires_grad_()
        set_samples(
            [weighting(module) for module in modules.values()], gates, [len(each) for each in alphas], positions
        )
        with form():
            loss_of(supernet, batch).backward()
        sampled.backward(gates.grad)
        return [alpha.grad for alpha in alphas]

    ours, by_all = gradients(nullcontext), gradients(plain)
    assert sum(gradient.abs().max() > 1e-6 for gradient in by_all) >= 3
    for one, other in zip(ours, by_all, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def searched(data, **changes):
    settings = search_settings("proxyless", epochs=3, steps_per_epoch=4, batch_size=16, architecture_lr=0.1, **changes)
    moved = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            self.before = [parameter.detach().clone() for parameter in module.arch_parameters()]

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            after = module.arch_parameters()
            moved.append(any(not torch.equal(a, b) for a, b in zip(self.before, after, strict=True)))

    run(data, space_of(data, SPACE), settings, [Watch()], None)
    return moved


def test_the_architecture_begins_late_and_moves_now_and_then(tiny_data):
    assert searched(tiny_data) == [True] * 9  # a batch for the weights and one for the architecture: 3 steps an epoch
    assert searched(tiny_data, still_epochs=2) == [False] * 6 + [True] * 3
    assert searched(tiny_data, architecture_every=2) == [True, False, True] * 3
