"""The plain form of the recurrent encoder, for benchmarks and tests to compare with: under autograd, edge by edge, and
every candidate of a mixed layer is computed and multiplied by its weight."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedInput, DifferentiableMixedLayer
from torch import Tensor, nn
from torch.nn import functional

from model_space.encoders.recurrent import Activation, Recurrent
from trainer.supernet.choices import architecture_parameter, weighting

ACTIVATIONS: list[Callable[[Tensor], Tensor]] = [torch.tanh, torch.relu, torch.sigmoid, lambda p: p]


def choose(choice: nn.Module, candidates: list[Callable[[], Tensor]]) -> Tensor:
    if isinstance(choice, DifferentiableMixedLayer | DifferentiableMixedInput):
        weights = weighting(choice)(architecture_parameter(choice))
        return sum(candidate() * weight for candidate, weight in zip(candidates, weights, strict=True))
    return candidates[choice.index if isinstance(choice, Activation) else choice.chosen[0]]()


def edge(choice: nn.Module, state: Tensor, gate: Tensor, proposal: Tensor) -> Tensor:
    passing = [lambda f=f: state + gate * (f(proposal) - state) for f in ACTIVATIONS]
    return choose(choice, [lambda: torch.zeros_like(state), *passing])


def forward(cell: Recurrent, words: Tensor) -> Tensor:
    def norm(x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:]) if cell.edges == "all" else x

    def node(i: int, states: list[Tensor]) -> Tensor:
        source = torch.stack(states) if cell.edges == "all" else choose(cell.inputs[i], [lambda s=s: s for s in states])
        gate, proposal = ((source * mask) @ cell.weights[i]).chunk(2, -1)
        gate = gate.sigmoid()
        if cell.edges == "one":
            return edge(cell.activations[i], source, gate, proposal)
        return norm(sum(edge(*of_edge) for of_edge in zip(cell.activations[i], states, gate, proposal, strict=True)))

    weight_word, weight_state = cell.weight0.split((words.size(-1), cell.hidden))
    products = cell.hidden_dropout(cell.input_dropout(words)) @ weight_word
    state = words.new_zeros(len(words), cell.hidden)
    mask = cell.hidden_dropout(torch.ones_like(state).unsqueeze(1)).squeeze(1)
    after = []
    for product in products.unbind(1):
        gate, proposal = (product + (state * mask) @ weight_state).chunk(2, -1)
        states = [norm(state + gate.sigmoid() * (proposal.tanh() - state))]
        for i in range(len(cell.weights)):
            states.append(node(i, states))
        state = torch.stack(states[1:]).mean(0)
        after.append(state)
    return torch.stack(after, 1)


@contextmanager
def plain_recurrent() -> Iterator[None]:
    """Inside, recurrent encoders compute in the plain form."""
    with patch.object(Recurrent, "forward", forward):
        yield
