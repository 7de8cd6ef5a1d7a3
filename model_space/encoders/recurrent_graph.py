"""The recurrent sequence on a GPU, as two CUDA graphs.

A sequence of 14 words and a cell of 5 nodes are some 1,500 small kernels, and to launch them one by one takes several
times as long as to run them. Captured once for each shape, those of the forward pass are launched as one, and those of
the backward pass. A graph reads and writes the same memory each time, so inputs are copied in and results out.
"""

import weakref
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model_space.encoders.recurrent_sequence import CellSequence, Plan
from model_space.functional.by_hand import without_autocast


class Context:
    """Stands for the context of an autograd function."""

    def __init__(self, needs_input_grad: tuple[bool, ...]):
        self.needs_input_grad = needs_input_grad

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors


class Captured:
    """The sequence at one plan and at one set of shapes."""

    def __init__(self, plan: Plan, tensors: tuple[Tensor, ...]):
        needs_input_grad = (False, *(tensor.requires_grad for tensor in tensors))
        self.inputs = [tensor.detach().clone() for tensor in tensors]
        self.last = lambda: None

        def both() -> tuple[Tensor, Context]:
            context = Context(needs_input_grad)
            return CellSequence.forward(context, plan, *self.inputs), context

        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries set themselves up at a first call, which cannot be captured
            output, context = both()
            CellSequence.gradients(context, torch.zeros_like(output))
        torch.cuda.current_stream().wait_stream(aside)
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # thread_local: a loader's thread may pin memory at the same time.
        with torch.cuda.graph(self.forward, capture_error_mode="thread_local"):
            self.output, self.context = both()
        self.gradient = torch.empty_like(self.output)
        with torch.cuda.graph(self.backward, pool=self.forward.pool(), capture_error_mode="thread_local"):
            self.gradients = CellSequence.gradients(self.context, self.gradient)


class Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, captured: Captured, *tensors: Tensor) -> Tensor:
        ctx.captured = captured
        captured.last = weakref.ref(ctx)
        torch._foreach_copy_(captured.inputs, [tensor.detach() for tensor in tensors])
        captured.forward.replay()
        return captured.output.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        captured = ctx.captured
        captured.gradient.copy_(gradient)
        captured.backward.replay()
        captured.last = lambda: None
        return None, *(each if each is None else each.clone() for each in captured.gradients[1:])


_captured: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, Captured]] = weakref.WeakKeyDictionary()
"""What is captured for each module. It is beside the module and not in it, since a graph can be neither copied nor
saved."""


def replayed(owner: nn.Module, plan: Plan, *tensors: Tensor) -> Tensor:
    """Runs :func:`.recurrent_sequence.sequence` with gradients; what is captured is kept for ``owner``."""
    known = _captured.setdefault(owner, {})
    with without_autocast("cuda"):
        key = repr(plan), *((tensor.shape, tensor.dtype, tensor.requires_grad) for tensor in tensors)
        if key not in known:
            known[key] = Captured(plan, tensors)
        if known[key].last() is not None:  # a backward pass is still to come, and needs what the graph would overwrite
            return CellSequence.apply(plan, *tensors)
        return Replayed.apply(known[key], *tensors)
