"""The architecture of a search module, always in the order of the network, so that a search resumes bit for bit."""

from contextlib import AbstractContextManager

from nni.nas.oneshot.pytorch.differentiable import DartsLightningModule
from torch import nn

from model_space.contracts import Choices
from trainer.supernet.choices import architecture_parameters, at_sample, derive, distribution


class OrderedArchitecture(DartsLightningModule):
    """A search module that says what it searches: parameters, probabilities, architecture.

    NNI lists the architecture parameters in the order of a set, which differs between processes: the state of a
    resumed optimiser would meet other parameters. Its ``export_probs`` of GumbelDARTS is one noisy sample, not the
    distribution. And its labels are of a class that no file should hold.
    """

    def arch_parameters(self) -> list[nn.Parameter]:
        """Returns the architecture parameters, one for each label."""
        return list(architecture_parameters(self).values())

    def export_probs(self) -> dict[str, dict[str, float]]:
        """Returns the probability of each candidate by label, which the curve of a search shows."""
        return distribution(self)

    def export(self) -> Choices:
        """Returns the architecture that the search finds: the most probable candidate of every choice.

        A strategy that decides in another way, for example by a controller, returns its own choices here.
        """
        return derive(self)

    def figures(self) -> dict[str, float]:
        """Returns what the strategy has to tell of an epoch beside what every search tells, such as a temperature."""
        return {}

    def validated(self) -> AbstractContextManager:
        """Makes the supernet compute what an epoch validates: the derived architecture."""
        return at_sample(self, self.export())
