"""Mends two things of NNI's differentiable search modules, for a search that can go on where it was killed."""

from trainer.supernet.choices import architecture_parameters, distribution


class OrderedArchitecture:
    """Mixed into a ``DartsLightningModule``.

    NNI lists the architecture parameters in the order of a set, which differs between processes: the state of a
    resumed optimiser would meet other parameters. And its ``export_probs`` of GumbelDARTS is one noisy draw, not the
    distribution.
    """

    def arch_parameters(self):
        return list(architecture_parameters(self).values())

    def export_probs(self):
        return distribution(self)
