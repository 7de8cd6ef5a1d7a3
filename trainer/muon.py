"""Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon): matrices move by an orthogonal direction.

The momentum of a matrix's gradient is replaced by the nearest matrix whose singular values are near 1, by five
Newton-Schulz iterations, so that rare directions are learned as fast as frequent ones. All other weights are Adam's. A
step has the size that Liu et al. (2025, arXiv 2502.16982, equation 4) give it: 0.2 by root mean square at a learning
rate of 1, as Adam's. It computes what :class:`torch.optim.Muon` does in bfloat16, one matrix after the other; here
matrices of one shape are computed together, and Adam is in the same optimiser, since a search has one for its weights.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x, of x xᵀ x and of x xᵀ x xᵀ x: the quintic of Jordan et al., which maps singular values to 0.7 to 1.2."""


class Muon(torch.optim.Adam):
    """Adam, with a group of matrices that Muon moves.

    Args:
        weights: What Adam moves.
        matrices: What Muon moves, each ``(out, in)``. Those without a gradient stay where they are.
        lr: Learning rate of the weights.
        matrix_lr: Learning rate of the matrices.
        momentum: Share of the momentum that a step keeps; the direction looks ahead, as Nesterov's.
        options: Of Adam.
    """

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        matrices: Sequence[nn.Parameter],
        *,
        lr: float,
        matrix_lr: float,
        momentum: float,
        **options: Any,
    ):
        super().__init__(weights, lr=lr, **options)
        self.add_param_group({"params": matrices, "lr": matrix_lr, "momentum": momentum})

    def _init_group(self, group: dict[str, Any], *of_adam: Any) -> bool:
        """Tells Adam what to move of a group: nothing of the matrices, which are moved here."""
        if "momentum" not in group:
            return super()._init_group(group, *of_adam)
        of_shape = defaultdict(list)
        for matrix in group["params"]:
            if matrix.grad is not None:
                of_shape[matrix.shape].append(matrix)
        for shape, matrices in of_shape.items():
            directions = orthogonal(self._momenta(matrices, group["momentum"])).unbind()
            torch._foreach_add_(matrices, directions, alpha=-0.2 * max(shape) ** 0.5 * group["lr"])
        return False

    def _momenta(self, matrices: Sequence[nn.Parameter], momentum: float) -> Tensor:
        """Returns the momenta of K matrices of one shape after this step, looking ahead, ``(K, out, in)``."""
        for matrix in matrices:
            if not self.state[matrix]:
                # Adam restores a state by its step.
                self.state[matrix].update(step=torch.tensor(0.0), momentum=torch.zeros_like(matrix))
        momenta = [self.state[matrix]["momentum"] for matrix in matrices]
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        return torch.stack(gradients).lerp_(torch.stack(momenta), momentum)


def orthogonal(matrices: Tensor) -> Tensor:
    """Returns, for K matrices ``(K, out, in)``, those with the same singular vectors and singular values near 1."""
    a, b, c = COEFFICIENTS
    upright = matrices.size(1) > matrices.size(2)
    x = matrices.mT if upright else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        squared = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(squared, squared, squared, beta=b, alpha=c), x, beta=a)
    return x.mT if upright else x
