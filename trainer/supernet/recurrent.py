"""How the recurrent question encoder reads the mixed layers of a strategy."""

from typing import Any

from torch import Tensor, nn

from model_space.encoders.recurrent import Reading, Recurrent
from trainer.supernet.choices import MixedModule, OneHot, architecture_parameter, weighting


def read_mixed(choice: MixedModule, one_hots: Tensor, time_steps: int) -> Reading:
    """Returns the weights of a mixed layer's candidates, by its softmax, its noisy softmax or its sample.

    All time steps are asked for at once. A layer that samples at each call samples for every time step then: each row
    is a sample of its own.
    """
    weights_of, parameter = weighting(choice), architecture_parameter(choice)
    if isinstance(weights_of, OneHot) and not weights_of.each_call:
        weights, chosen = weights_of(parameter), weights_of.index
    else:
        weights, chosen = weights_of(parameter.expand(time_steps, -1)), None
    if isinstance(weights_of, OneHot) and not getattr(choice, "computes_others", True):
        weights = weights * weights.detach()  # the same one-hot, with a gradient to the chosen candidate alone
    return weights, chosen


def read_mixed_layers(module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]) -> None:
    """Makes the recurrent encoder read the mixed layers that the mutation hooks after this one make of its choices."""
    if isinstance(module, Recurrent):
        module.read_choice = read_mixed
