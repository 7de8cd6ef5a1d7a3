"""Single path: only the sampled candidate of every choice is computed (GDAS, Dong and Yang, 2019, arXiv 1910.04465).

As in ENAS (Pham et al., 2018, arXiv 1802.03268) a step runs and trains one path through the supernet. As in GDAS the
straight-through sample carries the gradient to the architecture, and only the entry of the chosen candidate c has one:
``∂L/∂z_c = <g, f_c(x)>``, with g the gradient of the choice's output. The entries of the others are zero, where SNAS
computes ``<g, f_k(x)>``. So this is another estimator than SNAS, and a cheaper one.
"""

from typing import Literal

from trainer.strategies.snas import SampledInput, SampledLayer, Snas
from trainer.strategy import SearchSettings, Temperature


class SinglePathLayer(SampledLayer):
    """A `LayerChoice` of which only the sampled candidate is computed."""

    computes_others = False


class SinglePathInput(SampledInput):
    """An `InputChoice` of which only the sampled candidate is looked at."""

    computes_others = False


class SinglePath(Snas):
    """As :class:`~trainer.strategies.snas.Snas`, with the gradient of the sampled candidates alone."""

    mixed_layer = SinglePathLayer
    mixed_input = SinglePathInput


class SinglePathSettings(Temperature, SearchSettings):
    """Settings of a search by single path."""

    strategy: Literal["single_path"] = "single_path"

    def build(self) -> SinglePath:
        """Returns the strategy."""
        return SinglePath(architecture_lr=self.architecture_lr, temperature=self.temperature)
