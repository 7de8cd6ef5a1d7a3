"""How the recurrent question encoder reads the mixed layers of a strategy."""

from typing import Any

from torch import Tensor, nn

from model_space.encoders.recurrent import Reading, Recurrent
from trainer.supernet.choices import MixedModule, OneHot


def read_mixed(choice: MixedModule, one_hots: Tensor, time_steps: int) -> Reading:
    """The weights of a mixed layer's candidates, by its softmax, its noisy softmax or its sample.

    All time steps are asked for at once. What draws at each call draws for every time step then: each row is a draw of
    its own.
    """
    softmax = choice._softmax
    if isinstance(softmax, OneHot) and not softmax.each_call:
        weights, chosen = softmax(choice._arch_alpha), softmax.index
    else:
        weights, chosen = softmax(choice._arch_alpha.expand(time_steps, -1)), None
    if not getattr(choice, "others", True):
        weights = weights * weights.detach()  # the same one-hot, with a gradient to the chosen candidate alone
    return weights, chosen


def read_mixed_layers(module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]) -> None:
    """A mutation hook: the recurrent encoder reads the mixed layers that the hooks after it make of its choices."""
    if isinstance(module, Recurrent):
        module.read_choice = read_mixed
