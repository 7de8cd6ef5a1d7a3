"""What each candidate of a choice costs: weights, multiply-adds, or seconds that were measured."""

import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model_space.functional.by_hand import plain_forms
from trainer.data.vqa import Batch
from trainer.module import answer_logits
from trainer.supernet.choices import mixed_modules

Resource = Literal["weights", "multiply_adds", "seconds"]
REPEATS = 5
"""Number of passes of a candidate whose median is its seconds; one more comes first."""


@torch.no_grad()
def candidate_costs(supernet: nn.Module, batch: Batch, resource: Resource) -> Tensor:
    """Returns the cost of every candidate as a share of the most expensive architecture's, ``(labels, candidates)``.

    Labels are in the order of the network, and rows are padded with zeros. A label in several cells costs what it costs
    in all of them. The inputs of a choice cost nothing, nor does a layer that the network does not call as a module, as
    the activations of the recurrent encoder.

    Args:
        supernet: A supernet that computes some sample.
        batch: Questions with which it is called.
        resource: What is counted.
    """
    called: dict[nn.Module, tuple[Any, ...]] = {}
    layers = [module for module in mixed_modules(supernet) if hasattr(module, "names")]
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs: called.update({module: inputs})) for layer in layers
    ]
    training = supernet.training
    supernet.eval()
    answer_logits(supernet, batch)
    for hook in hooks:
        hook.remove()
    costs: dict[Any, Tensor] = {}
    measured = MEASURES[resource]
    for module in mixed_modules(supernet):
        candidates = [module[name] for name in module.names] if module in called else []
        of_layer = [measured(each, called[module]) for each in candidates] or [0.0]
        costs[module.label] = costs.get(module.label, torch.zeros(1, dtype=torch.float64)) + torch.tensor(
            of_layer, dtype=torch.float64
        )
    supernet.train(training)
    rows = nn.utils.rnn.pad_sequence(list(costs.values()), batch_first=True)
    return rows / rows.amax(-1).sum().clamp(min=1e-30)


def _weights(candidate: nn.Module, inputs: tuple[Any, ...]) -> float:
    return sum(weight.numel() for weight in candidate.parameters())


def _multiply_adds(candidate: nn.Module, inputs: tuple[Any, ...]) -> float:
    with plain_forms(), FlopCounterMode(display=False) as counter:
        candidate(*inputs)
    return counter.get_total_flops() / 2


def _seconds(candidate: nn.Module, inputs: tuple[Any, ...]) -> float:
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        candidate(*inputs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


MEASURES: dict[Resource, Callable[[nn.Module, tuple[Any, ...]], float]] = {
    "weights": _weights,
    "multiply_adds": _multiply_adds,
    "seconds": _seconds,
}
