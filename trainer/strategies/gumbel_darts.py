"""GumbelDARTS by NNI: DARTS with a soft Gumbel-softmax draw in place of the softmax (FBNet, arXiv 1812.03443)."""

from nni.nas.oneshot.pytorch.differentiable import GumbelDartsLightningModule, LinearTemperatureScheduler
from nni.nas.oneshot.pytorch.strategy import GumbelDARTS

from trainer.strategies.ordered import OrderedArchitecture
from trainer.strategies.recurrent import read_mixed_layers


class GumbelDartsModule(OrderedArchitecture, GumbelDartsLightningModule):
    """NNI's search loop of GumbelDARTS. Every mixed layer draws for itself, also where two share a label."""


class GumbelDarts(GumbelDARTS):
    """NNI's strategy of GumbelDARTS.

    Args:
        architecture_lr: learning rate of the architecture's Adam (0.5, 0.999), weight decay 1e-3.
        temperature: of the Gumbel-softmax at the first epoch and towards the last, linear in between.
    """

    def __init__(self, *, architecture_lr: float, temperature: tuple[float, float]):
        super().__init__(arc_learning_rate=architecture_lr, temperature=tuple(map(float, temperature)))

    def configure_oneshot_module(self, training_module) -> GumbelDartsModule:
        schedule = LinearTemperatureScheduler(*self.temperature)
        return GumbelDartsModule(training_module, schedule, arc_learning_rate=self.arc_learning_rate)

    def default_mutation_hooks(self):
        return [read_mixed_layers, *super().default_mutation_hooks()]
