"""How the recurrent sequence is replayed, on a CPU: what stands for the graphs computes what they were captured from.

That the graphs themselves do is held by test_gpu.py.
"""

import copy

import torch

from model_space.encoders import recurrent, recurrent_graph
from model_space.encoders.recurrent import RecurrentSettings
from model_space.encoders.recurrent_sequence import CellSequence
from model_space.spaces.stacked import StackedSettings
from tests.helpers.tiny import tiny_space
from trainer.strategies.snas import Snas
from trainer.supernet.choices import at_sample


class Computed:
    """Has what :class:`model_space.encoders.recurrent_graph.Captured` has."""

    def __init__(self, plan, tensors):
        self.plan, self.last = plan, lambda: None
        self.inputs = [tensor.detach().clone() for tensor in tensors]
        self.context = recurrent_graph.Context((False, *(tensor.requires_grad for tensor in tensors)))
        self.forward, self.backward = Replay(self.run_forward), Replay(self.run_backward)
        self.run_forward()
        self.gradient = torch.empty_like(self.output)

    def run_forward(self):
        self.output = CellSequence.forward(self.context, self.plan, *self.inputs)

    def run_backward(self):
        self.gradients = CellSequence.gradients(self.context, self.gradient)


class Replay:
    def __init__(self, replay):
        self.replay = replay


def test_replayed_it_has_the_gradients_that_it_has_otherwise_and_can_be_copied(monkeypatch):
    space = tiny_space(
        StackedSettings(cells=1, nodes=1), RecurrentSettings(nodes=3, input_dropout=0.0, hidden_dropout=0.0)
    )
    encoder = Snas(architecture_lr=1e-3, temperature=(1.0, 1.0)).mutate_model(space.build()).question_encoder
    choices = space.random_choices(0)
    first, second = torch.randint(1, 20, (2, 3, 6))

    def gradients(*batches: torch.Tensor) -> dict[str, torch.Tensor]:
        encoder.zero_grad()
        with at_sample(encoder, choices):
            sum(encoder(tokens).square().sum() for tokens in batches).backward()
        return {name: weight.grad for name, weight in encoder.named_parameters() if weight.grad is not None}

    expected = {batches: gradients(*batches) for batches in ((first,), (second,), (first, second))}
    monkeypatch.setattr(recurrent_graph, "Captured", Computed)
    monkeypatch.setattr(
        recurrent, "sequence", lambda plan, *tensors: recurrent_graph.replayed(encoder.recurrent, plan, *tensors)
    )
    # The last has a second forward pass before the backward pass of the first, which must not overwrite it.
    for batches, gradient in expected.items():
        torch.testing.assert_close(gradients(*batches), gradient)
    assert len(recurrent_graph._captured[encoder.recurrent]) == 1
    copy.deepcopy(encoder)
