"""The searched recurrent cell over all words of a question, forward and backward by hand.

Under autograd a time step of the cell is some hundred small operations with a node of the graph each, and that, not the
arithmetic, is what it costs. Here the loop over time holds only what depends on the time step before. The rest of the
backward pass is done for all time steps at once: the slopes of gates and activations before the loop, the gradients of
weights and mixtures after it.

An edge with the weights w of its candidates, from a state s, with the gate g and the proposal p, is

    y = Σ_k w_k (s + g (f_k(p) - s)) = W (s + g (f - s)),    W = Σ_k w_k,    f = Σ_k w_k f_k(p) / W,

where k runs over the candidates but ``none``, so that W is 1 less its weight. With d = ∂L/∂y:

    ∂L/∂g = W d (f - s)    ∂L/∂p = d g Σ_k w_k f_k'(p)    ∂L/∂s = W d (1 - g)    ∂L/∂w_k = <d, s + g (f_k(p) - s)>

Shapes: T time steps, B questions, H hidden, N nodes after node 0, e edges of a node, K candidates of an edge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model_space.functional.by_hand import without_autocast

aten = torch.ops.aten

ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "none": (lambda p, out: out.zero_(), lambda d, f, out: out.zero_()),
    "tanh": (torch.tanh, lambda d, f, out: aten.tanh_backward(d, f, grad_input=out)),
    "relu": (
        lambda p, out: torch.clamp_min(p, 0, out=out),
        lambda d, f, out: aten.threshold_backward(d, f, 0, grad_input=out),
    ),
    "sigmoid": (torch.sigmoid, lambda d, f, out: aten.sigmoid_backward(d, f, grad_input=out)),
    "identity": (lambda p, out: out.copy_(p), lambda d, f, out: out.copy_(d)),
}
"""The candidates of an edge, ``none`` first and ``identity`` last: f as a function of p, and the gradient of p as a
function of the gradient of f and of f."""

FUNCTIONS, GRADIENTS = zip(*ACTIVATIONS.values(), strict=True)
NONE = 0
NORM_EPS = 1e-5


@dataclass
class Plan:
    """What is known of the choices of a cell before it runs."""

    normalised: bool
    """Whether node 0 and the sum of every other node are normalised."""
    activations: list[list[int]] | None
    """The activation of each edge of each node; None where an edge mixes several, or has another at each time step."""
    sources: list[list[int]] | None
    """The nodes where the edges of each node begin, which are neighbours; None where a node has one edge, from a
    mixture of all earlier nodes."""

    def heard(self, nodes: int) -> list[bool]:
        """Returns for each node, from node 0 on, whether the output depends on it; else its weights get no gradient."""
        if self.activations is None or self.sources is None:
            return [True] * (nodes + 1)
        sources = [
            [source for source, activation in zip(*edges, strict=True) if activation != NONE]
            for edges in zip(self.sources, self.activations, strict=True)
        ]
        return [any(0 in node for node in sources), *map(bool, sources)]


def sequence(plan: Plan, *tensors: Tensor) -> Tensor:
    """Returns the state after every word, ``(B, T, H)``; for the arguments see :meth:`CellSequence.forward`."""
    with without_autocast(tensors[0].device.type):  # the products alone are in lower precision
        return (
            CellSequence.apply(plan, *tensors)
            if torch.is_grad_enabled()
            else CellSequence.forward(None, plan, *tensors)
        )


class CellSequence(torch.autograd.Function):
    """The cell over all words, forward and backward by hand."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, mask: Tensor, words: Tensor, weight0: Tensor, *rest: Tensor) -> Tensor:
        """Computes the state after every word; keeps nothing for a backward pass where ``ctx`` is None.

        Args:
            ctx: The context of the backward pass.
            plan: What is known of the choices.
            mask: Dropout of the states, ``(B, H)``.
            words: The part of the words in the product of node 0, ``(T, B, 2 H)``. All products have its precision.
            weight0: The weight of the state before in that product, ``(H, 2 H)``.
            rest: First, for each node, the weights of the candidates of its edges, ``(T, e, K)``. Then, unless all
                earlier nodes are sources of a node, for each node the weights of its sources, ``(T, 1, sources)``.
                Last, the weight of each node, ``(H, 2 H)``.
        """
        (T, B, H2), H = words.shape, mask.size(1)
        N = len(rest) // (2 if plan.normalised else 3)
        mixtures, picks, wide_weights = rest[:N], rest[N:-N], rest[-N:]
        low = words.dtype
        weight0, *weights = (weight.to(low) for weight in (weight0, *wide_weights))

        def stack(*shape: int, dtype: torch.dtype = mask.dtype) -> Tensor:
            """Returns room for all time steps or, where nothing is kept, for one."""
            return mask.new_empty(T if ctx else 1, *shape, dtype=dtype)

        def steps(stack: Tensor) -> Sequence[Tensor]:
            """Returns a view for each time step. To make one takes as long as to add two small tensors."""
            return stack.unbind(0) * (T // len(stack))

        h = mask.new_zeros(T + 1, B, H)  # the state of the sequence
        states, masked = stack(N + 1, B, H), stack(N + 1, B, H, dtype=low)  # of each node, and under dropout
        sums = stack(N + 1, B, H) if plan.normalised else states  # what is normalised
        product0, products = stack(B, H2), [stack(m.size(1), B, H2) for m in mixtures]  # [c, p], then [g, p]
        values = [stack(m.size(1), B, H) for m in mixtures]  # f of each edge
        passed = [m[..., 1:].sum(-1, keepdim=True) for m in mixtures]  # W of each edge
        if plan.sources is None:
            sources = [stack(1, B, H) for _ in range(N)]
            masked_sources = [stack(1, B, H, dtype=low) for _ in range(N)]
            picks_at = [pick.unbind(0) for pick in picks]
            before_at = [steps(states[:, : i + 1].flatten(2)) for i in range(N)]
        else:
            ranges = [slice(node[0], node[-1] + 1) for node in plan.sources]
            sources, masked_sources = [states[:, r] for r in ranges], [masked[:, r] for r in ranges]

        h_at, words_at, product0_at, after_at = h.unbind(0), words.unbind(0), steps(product0), steps(states[:, 1:])
        gate0_at, proposal0_at = map(steps, product0.chunk(2, -1))
        state_at, masked_at, sum_at = ([steps(node) for node in s.unbind(1)] for s in (states, masked, sums))
        flat_sum_at = [steps(node.flatten(1).unsqueeze(1)) for node in sums.unbind(1)]
        source_at, values_at = ([steps(node) for node in s] for s in (sources, values))
        flat_source_at = [steps(node.flatten(2)) for node in sources]
        masked_source_at = [steps(node) for node in masked_sources]
        rows_at, product_at = ([steps(node.flatten(1, 2)) for node in s] for s in (masked_sources, products))
        gate_at, proposal_at = ([steps(p.chunk(2, -1)[half]) for p in products] for half in (0, 1))
        passed_at = [node.transpose(1, 2).unbind(0) for node in passed]
        if plan.activations:
            functions = [[FUNCTIONS[k] for k in node] for node in plan.activations]
        else:
            # A sum of weights is 0 where nothing is passed on, and then so are the weights.
            tiny = torch.finfo(mask.dtype).tiny
            means_at = [(m[..., 1:] / w.clamp(min=tiny)).unsqueeze(2).unbind(0) for m, w in zip(mixtures, passed)]
            candidates = [mask.new_empty(len(FUNCTIONS) - 1, m.size(1), B, H) for m in mixtures]
            flat_candidates = [c.flatten(2).transpose(0, 1) for c in candidates]
            flat_values_at = [steps(v.flatten(2).unsqueeze(2)) for v in values]
        moments: list[list[Tensor]] = []

        def end_node(node: int, t: int) -> None:
            if plan.normalised:
                state, *mean_and_deviation = torch.native_layer_norm(sum_at[node][t], [H], None, None, NORM_EPS)
                state_at[node][t].copy_(state)
                moments.append(mean_and_deviation)
            torch.mul(state_at[node][t], mask, out=masked_at[node][t])

        h_masked = torch.empty_like(mask, dtype=low)
        for t in range(T):
            torch.add(words_at[t], torch.mul(h_at[t], mask, out=h_masked) @ weight0, out=product0_at[t])
            torch.lerp(h_at[t], proposal0_at[t].tanh(), gate0_at[t].sigmoid_(), out=sum_at[0][t])
            end_node(0, t)
            for i in range(N):
                if plan.sources is None:
                    torch.mm(picks_at[i][t], before_at[i][t], out=flat_source_at[i][t])
                    torch.mul(source_at[i][t], mask, out=masked_source_at[i][t])
                _product(rows_at[i][t], weights[i], out=product_at[i][t])
                if plan.activations:
                    edges = zip(functions[i], proposal_at[i][t].unbind(0), values_at[i][t].unbind(0), strict=True)
                    for function, p, f in edges:
                        function(p, out=f)
                else:
                    for function, f in zip(FUNCTIONS[1:], candidates[i], strict=True):
                        function(proposal_at[i][t], out=f)
                    torch.bmm(means_at[i][t], flat_candidates[i], out=flat_values_at[i][t])
                mixed = torch.lerp(source_at[i][t], values_at[i][t], gate_at[i][t].sigmoid_())
                torch.mm(passed_at[i][t], mixed.flatten(1), out=flat_sum_at[i + 1][t])
                end_node(i + 1, t)
            torch.mean(after_at[t], 0, out=h_at[t + 1])

        if ctx:
            ctx.plan, ctx.moments = plan, moments
            by_node = *products, *values, *passed, *sources, *masked_sources, *mixtures, *weights, *picks
            ctx.save_for_backward(mask, h, states, sums, product0, weight0, *by_node)
        return h[1:].transpose(0, 1).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # Autocast is a state of the thread.
        with without_autocast(gradient.device.type):
            return CellSequence.gradients(ctx, gradient)

    @staticmethod
    def gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan = ctx.plan
        mask, h, states, sums, product0, weight0, *by_node = ctx.saved_tensors
        T, N, (B, H) = len(states), states.size(1) - 1, mask.shape
        products, values, passed, sources, masked_sources, mixtures, weights, picks = (
            by_node[first : first + N] for first in range(0, 8 * N, N)
        )
        wide, low = mask.dtype, weight0.dtype

        # By how much a node's sum moves with the two halves of its edges' products, and with their sources directly.
        slopes = [values[0].new_empty(*value.shape[:-1], 2, H) for value in values]
        direct = [torch.empty_like(value) for value in values]
        for i in range(N):
            (gate, proposal), (to_gate, to_proposal) = products[i].chunk(2, -1), slopes[i].unbind(-2)
            aten.sigmoid_backward(values[i] - sources[i], gate, grad_input=to_gate)
            torch.sub(1, gate, out=direct[i])
            if plan.activations:
                for e, k in enumerate(plan.activations[i]):
                    GRADIENTS[k](gate[:, e], values[i][:, e], out=to_proposal[:, e])
                    if k == NONE:
                        to_gate[:, e] = direct[i][:, e] = 0
            else:
                to_proposal.zero_()
                f, d = torch.empty_like(values[i]), torch.empty_like(values[i])
                for k in range(1, len(FUNCTIONS)):
                    GRADIENTS[k](gate, FUNCTIONS[k](proposal, out=f), out=d)
                    to_proposal.addcmul_(d, mixtures[i][..., k, None, None])
                to_gate *= passed[i].unsqueeze(-1)
                direct[i] *= passed[i].unsqueeze(-1)
        gate0, proposal0 = product0.chunk(2, -1)
        tanh0 = proposal0.tanh()
        slope0 = torch.stack([aten.sigmoid_backward(tanh0 - h[:-1], gate0), aten.tanh_backward(gate0, tanh0)], -2)
        direct0 = 1 - gate0

        # The gradients of products take the place of the slopes, unless they are in lower precision.
        d_product0, *d_products = (s if low == wide else torch.empty_like(s, dtype=low) for s in (slope0, *slopes))
        back0, *back = (weight.t().contiguous() for weight in (weight0, *weights))
        d_states, d_h = torch.empty_like(states[0]), torch.zeros_like(mask)
        d_sums: list[list[Any]] = [[None] * T for _ in range(N)]
        d_sources: list[list[Any]] = [[None] * T for _ in range(N)]
        if plan.sources is None:
            d_before = [d_states[: i + 1].flatten(1) for i in range(N)]
            picks_at = [pick.transpose(1, 2).unbind(0) for pick in picks]
        else:
            d_source = [d_states[node[0] : node[-1] + 1] for node in plan.sources]

        gradient_at, d_state = gradient.unbind(1), d_states.unbind(0)
        slope0_at, direct0_at, d_product0_at = slope0.unbind(0), direct0.unbind(0), d_product0.unbind(0)
        slopes_at, direct_at, d_products_at = ([node.unbind(0) for node in s] for s in (slopes, direct, d_products))
        rows0_at, rows_at = d_product0.flatten(2).unbind(0), [d.view(T, -1, 2 * H).unbind(0) for d in d_products]
        sum_at = [node.unbind(0) for node in sums.unbind(1)]

        def begin_node(node: int, t: int) -> Tensor:
            """Returns the gradient of the sum of a node, from that of its state."""
            if not plan.normalised:
                return d_state[node].clone()
            moments, no_affine = ctx.moments[t * (N + 1) + node], (None, None, [True, False, False])
            return aten.native_layer_norm_backward(d_state[node], sum_at[node][t], [H], *moments, *no_affine)[0]

        for t in reversed(range(T)):
            d_h += gradient_at[t]
            d_states.copy_(d_h / N)
            d_state[0].zero_()
            for i in reversed(range(N)):
                d_sum = d_sums[i][t] = begin_node(i + 1, t)
                torch.mul(slopes_at[i][t], d_sum.unsqueeze(1), out=d_products_at[i][t])
                d = (rows_at[i][t] @ back[i]).view(-1, B, H).to(wide)
                d.mul_(mask).addcmul_(direct_at[i][t], d_sum)
                if plan.sources is None:
                    d_before[i].addmm_(picks_at[i][t], d.view(1, -1))
                else:
                    d_source[i].add_(d)
                if picks:
                    d_sources[i][t] = d
            d_sum = begin_node(0, t)
            torch.mul(slope0_at[t], d_sum.unsqueeze(1), out=d_product0_at[t])
            d_h = (rows0_at[t] @ back0).to(wide).mul_(mask).addcmul_(direct0_at[t], d_sum)

        needs_mixtures, needs_picks = ctx.needs_input_grad[4], bool(picks) and ctx.needs_input_grad[4 + N]
        d_mixtures: list[Tensor | None] = [None] * N
        d_picks: list[Tensor | None] = [None] * len(picks)
        if needs_mixtures:
            scratch = values[0].new_empty(len(FUNCTIONS) * max(value.numel() for value in values))
            for i in range(N):
                d_mixtures[i] = _of_mixture(torch.stack(d_sums[i]), products[i], sources[i], scratch)
        if needs_picks:
            for i in range(N):
                d = torch.stack(d_sources[i]).view(T, B * H, 1)
                d_picks[i] = torch.bmm(states[:, : i + 1].flatten(2), d).transpose(1, 2)

        def of_weight(entered: Tensor, d_product: Tensor) -> Tensor:
            return (entered.reshape(-1, H).t() @ d_product.view(-1, 2 * H)).to(wide)

        heard0, *heard = plan.heard(N)
        d_weights = [
            of_weight(entered, d) if node else None
            for node, entered, d in zip(heard, masked_sources, d_products, strict=True)
        ]
        of_node0: tuple[Tensor | None, Tensor | None] = (None, None)
        if heard0:
            of_node0 = d_product0.flatten(2), of_weight((h[:-1] * mask).to(low), d_product0)
        return None, None, *of_node0, *d_mixtures, *d_picks, *d_weights


def _of_mixture(d_sum: Tensor, product: Tensor, source: Tensor, scratch: Tensor) -> Tensor:
    """Returns the gradient of the weights of a node's candidates, ``(T, e, K)``, from that of its sum ``(T, B, H)``."""
    gate, proposal = product.chunk(2, -1)
    rows = scratch[: len(FUNCTIONS) * gate.numel()].view(-1, *gate.shape)
    rows[0] = source  # in the place of `none`, whose gradient is 0
    proposal = rows[-1].copy_(proposal)
    for function, row in zip(FUNCTIONS[1:-1], rows[1:-1], strict=True):
        function(proposal, out=row)
    d_sum = d_sum.unsqueeze(1)
    gated = (d_sum * gate).flatten(0, 1).flatten(1).unsqueeze(2)
    inner = torch.bmm(rows.flatten(1, 2).flatten(2).transpose(0, 1), gated).view(*gate.shape[:2], -1)
    directly = torch.bmm(source.flatten(2), d_sum.flatten(2).transpose(1, 2))
    gradient = torch.zeros_like(inner)
    gradient[..., 1:] = inner[..., 1:] - inner[..., :1] + directly
    return gradient


def _product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    return torch.mm(a, b, out=out) if a.dtype == out.dtype else out.copy_(a @ b)
