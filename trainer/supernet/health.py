"""The health of a search: whether it decides, on what, and whether the architecture's gradient says anything.

A search can fail without a wrong line of code. `identity` and `none` may win, since they are learned at once and other
operations slowly (Zela et al., 2020, arXiv 1909.09656). Or the choices are made before the weights have learned
anything, or are never made at all.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

Probabilities = Mapping[str, Mapping[str, float]]
"""Label of a choice → candidate → probability."""

IDLE = frozenset({"identity", "none", "ID-ID"})
"""Candidates that pass on what comes in, or nothing."""
MOVED = 0.01
"""How far from uniform one probability must be for the search to have learned anything. The noise with which the
architecture parameters start gives about 0.0003."""
COLLAPSED = 0.5
"""Share of idle choices from which a search counts as collapsed."""
DECIDED = 0.1
"""Mean entropy below which a search counts as decided."""


def entropies(probabilities: Probabilities) -> dict[str, float]:
    """Returns the entropy of each choice as a fraction of its largest: 1 is undecided, 0 is decided."""
    return {
        label: -sum(p * math.log(p) for p in candidates.values() if p > 0) / math.log(len(candidates))
        for label, candidates in probabilities.items()
        if len(candidates) > 1
    }


def health(probabilities: Probabilities, before: Probabilities | None) -> dict[str, Any]:
    """Returns what an epoch's probabilities tell of a search.

    Args:
        probabilities: Those of the epoch.
        before: Those of the epoch before; None for the first.

    Returns:
        ``entropy_by_label`` and their mean ``entropy``; ``idle``, the share of the choices of an operation whose most
        probable candidate is idle, where a candidate is; and ``agreement``, the share of the choices whose most
        probable candidate is that of the epoch before.
    """
    by_label = entropies(probabilities)
    told: dict[str, Any] = {
        "entropy": sum(by_label.values()) / len(by_label) if by_label else 0.0,
        "entropy_by_label": by_label,
    }
    first = {label: _most_probable(candidates) for label, candidates in probabilities.items()}
    operations = [label for label, candidates in probabilities.items() if IDLE & candidates.keys()]
    if operations:
        told["idle"] = sum(first[label] in IDLE for label in operations) / len(operations)
    if before is not None:
        told["agreement"] = sum(first[label] == _most_probable(before[label]) for label in first) / len(first)
    return told


def _most_probable(candidates: Mapping[str, float]) -> str:
    return max(candidates, key=candidates.__getitem__)


def diagnosis(curve: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns in words what is wrong with a search by its curve; None where nothing is seen to be.

    Args:
        curve: Its epochs, as they were recorded.
    """
    last = curve[-1]
    if warning := unmoved(last["probabilities"]):
        return warning
    if last.get("idle", 0.0) >= COLLAPSED:
        return (
            f"the search has collapsed: the most probable candidate of {last['idle']:.0%} of the operations passes on "
            "what comes in, or nothing; fewer epochs, or a warm-up of the weights, may help"
        )
    decided = next((epoch["epoch"] for epoch in curve if epoch["entropy"] < DECIDED), None)
    if decided is not None and decided <= last["epochs"] / 3:
        return (
            f"the search was decided after epoch {decided} of {last['epochs']} (entropy below {DECIDED}): what the "
            "weights learned later had no say; a smaller learning rate of the architecture may help"
        )
    return None


def unmoved(probabilities: Probabilities) -> str | None:
    """Returns a warning if no probability is further from uniform than `MOVED`, else None."""
    open_choices = [list(each.values()) for each in probabilities.values() if len(each) > 1]
    furthest = max((abs(p - 1 / len(each)) for each in open_choices for p in each), default=None)
    if furthest is None or furthest > MOVED:
        return None
    return (
        f"the search did not move the architecture parameters: no probability of its {len(open_choices)} choices is "
        f"further than {100 * furthest:.2f} points from uniform, so what it derives is left to chance; "
        "more epochs or a larger learning rate of the architecture may help"
    )


class GradientSignal(Callback):
    """Measures signal to noise of the architecture's gradient over the steps of an epoch.

    With the gradients g of all architecture parameters together, that is ‖mean g‖ / √(mean ‖g − mean g‖²). Gradients
    that say nothing but noise give about one over the root of the number of steps.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.total: Tensor | None = None
        self.squares: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "total": self.total, "squares": self.squares}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.total, self.squares = state_dict["steps"], state_dict["total"], state_dict["squares"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.parameters = pl_module.arch_parameters()  # type: ignore[operator]

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        searched = [each for each in self.parameters if id(each) in moved]
        if all(each.grad is None for each in searched):
            return
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in searched]
        gradient = torch.cat([each.flatten() for each in gradients]).double()
        self.steps += 1
        self.total = gradient if self.total is None else self.total.to(gradient.device) + gradient
        square = gradient.square().sum()
        self.squares = square if self.squares is None else self.squares.to(square.device) + square

    def measured(self) -> dict[str, float]:
        """Returns ``signal_to_noise`` of the steps so far, if there were any, and begins anew. This waits for the
        device."""
        if self.total is None or self.squares is None or self.steps < 2:
            return {}
        mean = self.total / self.steps
        signal = mean.square().sum().item()
        noise = self.squares.item() / self.steps - signal
        self.steps, self.total, self.squares = 0, None, None
        return {"signal_to_noise": math.sqrt(signal / noise)} if noise > 0 else {}
