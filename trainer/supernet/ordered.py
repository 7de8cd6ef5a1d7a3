"""Mends two things of NNI's differentiable search modules, for a search that resumes where it was killed."""

from trainer.supernet.choices import architecture_parameters, distribution


class OrderedArchitecture:
    """A mixin for a ``DartsLightningModule`` that knows the order of the architecture parameters.

    NNI lists the architecture parameters in the order of a set, which differs between processes: the state of a
    resumed optimiser would meet other parameters. And its ``export_probs`` of GumbelDARTS is one noisy sample, not
    the distribution.
    """

    def arch_parameters(self):
        return list(architecture_parameters(self).values())

    def export_probs(self):
        return distribution(self)
