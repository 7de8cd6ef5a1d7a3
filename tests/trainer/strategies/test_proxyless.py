"""Proxyless: how gates are sampled, what their gradient is, and when the architecture moves."""

import pytest
import torch
from torch import nn

from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import search_settings
from tests.helpers.supernets import loss_of, supernet_of
from tests.helpers.tiny import space_of, tiny_batch
from trainer.search import run
from trainer.strategies.proxyless import binary_gates
from trainer.supernet.choices import architecture_parameters, at_sample, gumbel

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


def test_every_candidate_of_a_gate_has_the_gradient_that_computing_it_would_give():
    """∂L/∂g_k of a candidate that the gate leaves out is how the loss changes when a little of it is let in."""
    supernet = supernet_of(SPACE, "proxyless")
    batch = tiny_batch()
    choices = {label: [0] if "input" in label else "self_attention" for label in architecture_parameters(supernet)}
    with at_sample(supernet, choices) as gates:
        loss_of(supernet, batch).backward()
    assert all(gate.grad.abs().max() > 0 for label, gate in gates.items() if "operation" in label)


def searched(data, **changes):
    settings = search_settings("proxyless", epochs=3, steps_per_epoch=4, batch_size=16, architecture_lr=0.1, **changes)
    moved = []

    from pytorch_lightning.callbacks import Callback

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
