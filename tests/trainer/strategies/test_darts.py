"""DARTS of second order: its gradient is that of the loss after a step of the weights, and the weights stay."""

import pytest
import torch
from torch import nn

from trainer.strategies.darts import DartsModule


class Curved(DartsModule):
    """A search module whose loss is a function of two weights and two architecture parameters, curved in all."""

    def __init__(self, xi: float):
        nn.Module.__init__(self)
        self.alpha = nn.Parameter(torch.tensor([0.3, -0.2], dtype=torch.float64))
        self.weights = nn.ParameterList(torch.tensor([each], dtype=torch.float64) for each in (0.5, 1.5))
        self.xi = xi
        groups = [{"params": [each]} for each in self.weights]  # as those of Muon and Adam
        self.steps = [torch.optim.SGD(groups, lr=0.1), torch.optim.SGD([self.alpha], lr=0.1)]

    @property
    def weight(self) -> torch.Tensor:
        return torch.cat(list(self.weights))

    training_module = property(lambda self: self)

    def optimizers(self):
        return self.steps

    def micro_batches(self, questions):
        yield questions

    def all_reduce(self, parameters):
        pass

    def manual_backward(self, loss):
        loss.backward()

    def training_step(self, questions, batch_idx):
        return loss(self.weight, self.alpha, questions)


def loss(weight, alpha, questions):
    mixed = (alpha.softmax(0) * torch.stack([weight.prod(), weight.sin().sum()])).sum()
    return ((mixed - questions) ** 2).sum() + 0.1 * (weight**4).sum()


BATCH = {"train": torch.tensor([0.2, 1.1], dtype=torch.float64), "val": torch.tensor([0.9], dtype=torch.float64)}


@pytest.mark.parametrize("xi", [0.05, 0.2])
def test_the_gradient_of_second_order_is_that_of_the_loss_after_a_step(xi):
    module = Curved(xi)
    before = module.weight.detach().clone()
    module.architecture_backward(BATCH, 0, module.steps[1])
    alpha, weight = (each.detach().clone().requires_grad_() for each in (module.alpha, module.weight))
    (gradient,) = torch.autograd.grad(loss(weight, alpha, BATCH["train"]), weight, create_graph=True)
    (exact,) = torch.autograd.grad(loss(weight - xi * gradient, alpha, BATCH["val"]), alpha)
    torch.testing.assert_close(module.alpha.grad, exact, rtol=1e-3, atol=0)
    assert torch.equal(module.weight, before)
    (first,) = torch.autograd.grad(loss(weight, alpha, BATCH["val"]), alpha)
    assert (first - exact).abs().max() > 10 * (module.alpha.grad - exact).abs().max()


def test_the_gradient_of_first_order_is_that_at_the_weights():
    module = Curved(0.0)
    module.architecture_backward(BATCH, 0, module.steps[1])
    alpha = module.alpha.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(module.weight.detach(), alpha, BATCH["val"]), alpha)
    torch.testing.assert_close(module.alpha.grad, first)
