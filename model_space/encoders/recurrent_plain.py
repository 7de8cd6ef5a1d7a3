"""The plain form of the searched recurrent cell: the equations of :mod:`model_space.encoders.recurrent`, step by step.

It is what tests and benchmarks compare with, what runs on other devices, and what an ONNX file computes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from model_space.encoders.recurrent_sequence import NONE, NORM_EPS, Plan

FUNCTIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.zeros_like,
    torch.tanh,
    torch.relu,
    torch.sigmoid,
    lambda p: p,
)
"""The activations in the order of :data:`~model_space.encoders.recurrent_sequence.ACTIVATIONS`."""


def plain_sequence(plan: Plan, mask: Tensor, products: Tensor, weight_state: Tensor, *rest: Tensor) -> Tensor:
    """Returns the state after every word, ``(B, T, H)``, as :func:`~.recurrent_sequence.sequence` does."""
    nodes = len(rest) // (2 if plan.normalised else 3)
    mixtures, picks, weights = rest[:nodes], rest[nodes:-nodes], rest[-nodes:]
    if any(tensor.requires_grad for tensor in (*mixtures, *picks)):
        # A search: the candidates that are not chosen have a gradient too.
        plan = replace(plan, activations=None, sources=plan.sources if plan.normalised else None)
    state, states = torch.zeros_like(mask), []
    for t, product in enumerate(products):
        of_time = [mixture[t] for mixture in mixtures], [pick[t, 0] for pick in picks]
        state = plain_step(plan, state, product + (state * mask) @ weight_state, mask, *of_time, weights)
        states.append(state)
    return torch.stack(states, 1)


def plain_step(
    plan: Plan,
    state: Tensor,
    product: Tensor,
    mask: Tensor | None,
    mixtures: Sequence[Tensor],
    picks: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> Tensor:
    """Returns the state after one more word, ``(B, H)``: equations s_0 and s_i of the cell, and the mean of its nodes.

    Args:
        plan: Which candidates are chosen, where that is known.
        state: The state before, ``(B, H)``.
        product: The product of node 0 with word and state, ``(B, 2 H)``.
        mask: Dropout of what enters the products, ``(B, H)``; None for none.
        mixtures: Weights of the candidates of each node's edges, ``(edges, K)``.
        picks: Weights of the sources of each node, ``(sources,)``; empty where every earlier node is a source.
        weights: Weight of the product of each node, ``(H, 2 H)``.
    """
    states = [_gated(plan, state, product)]
    for node, (weight, mixture) in enumerate(zip(weights, mixtures, strict=True)):
        if plan.sources is not None:
            sources = [states[source] for source in plan.sources[node]]
        else:
            sources = [torch.stack([w * s for w, s in zip(picks[node], states, strict=True)]).sum(0)]
        total = torch.zeros_like(state)
        for edge, source in enumerate(sources):
            gate, proposal = ((source if mask is None else source * mask) @ weight).chunk(2, -1)
            gate = gate.sigmoid()
            chosen = range(len(FUNCTIONS)) if plan.activations is None else [plan.activations[node][edge]]
            for k in chosen:
                if k != NONE:
                    total = total + mixture[edge, k] * (source + gate * (FUNCTIONS[k](proposal) - source))
        states.append(_normed(plan, total))
    return torch.stack(states[1:]).mean(0)


def _gated(plan: Plan, state: Tensor, product: Tensor) -> Tensor:
    """Returns node 0."""
    gate, proposal = product.chunk(2, -1)
    return _normed(plan, state + gate.sigmoid() * (proposal.tanh() - state))


def _normed(plan: Plan, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=NORM_EPS) if plan.normalised else x
