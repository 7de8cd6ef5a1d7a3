"""GumbelDARTS by NNI: DARTS with a soft Gumbel-softmax sample in place of the softmax (FBNet, arXiv 1812.03443)."""

from collections.abc import Callable
from typing import Literal

from nni.nas.oneshot.pytorch.differentiable import GumbelDartsLightningModule, LinearTemperatureScheduler
from nni.nas.oneshot.pytorch.strategy import GumbelDARTS
from nni.nas.oneshot.pytorch.supermodule.differentiable import GumbelSoftmax
from torch import Tensor

from trainer.module import VQAModule
from trainer.strategies.darts import DartsModule
from trainer.strategy import BiLevelSettings, Temperature
from trainer.supernet.choices import gumbel
from trainer.supernet.recurrent import read_mixed_layers


class NoisySoftmax(GumbelSoftmax):
    """NNI's Gumbel-softmax, with noise that the micro-batches of a step share.

    Every mixed layer samples for itself, also where two share a label.
    """

    each_call = True
    noise = staticmethod(gumbel)

    def forward(self, inputs: Tensor) -> Tensor:
        return ((inputs + self.noise(inputs)) / self.tau).softmax(-1)


class GumbelDartsModule(DartsModule, GumbelDartsLightningModule):
    """NNI's search loop of GumbelDARTS, with the two batches of a step in micro-batches."""


class GumbelDarts(GumbelDARTS):
    """NNI's strategy of GumbelDARTS.

    Args:
        architecture_lr: Learning rate of the architecture's Adam (0.5, 0.999), with a weight decay of 1e-3.
        temperature: Temperature of the Gumbel-softmax at the first epoch and towards the last, linear in between.
    """

    def __init__(self, *, architecture_lr: float, temperature: tuple[float, float]):
        super().__init__(arc_learning_rate=architecture_lr, temperature=tuple(map(float, temperature)))

    def configure_oneshot_module(self, training_module: VQAModule) -> GumbelDartsModule:
        schedule = LinearTemperatureScheduler(*self.temperature)
        return GumbelDartsModule(training_module, schedule, arc_learning_rate=self.arc_learning_rate)

    def configure_softmax(self) -> NoisySoftmax:
        return NoisySoftmax()

    def default_mutation_hooks(self) -> list[Callable]:
        return [read_mixed_layers, *super().default_mutation_hooks()]


class GumbelDartsSettings(Temperature, BiLevelSettings):
    """Settings of a search by GumbelDARTS."""

    strategy: Literal["gumbel_darts"] = "gumbel_darts"

    def build(self) -> GumbelDarts:
        """Returns the strategy."""
        return GumbelDarts(architecture_lr=self.architecture_lr, temperature=self.temperature)
