"""Random one-shot: every step trains paths that are sampled without regard to what was learned of them.

``uniform``
    A step trains one path, sampled uniformly (Guo et al., 2019, arXiv 1904.00420).
``fair``
    A step trains as many paths as the choice with most candidates has, on the same questions, and adds their
    gradients. In each choice they take the candidates in a random order, so that in a step every candidate of the
    largest choices is trained once (FairNAS, Chu et al., 2019, arXiv 1907.01845). A choice with fewer begins again.

Nothing is learned about the choices themselves: the distribution stays uniform, and the architecture is derived by
validation, see :mod:`trainer.derivation`.
"""

from typing import Literal

from pydantic import Field

from trainer.module import VQAModule
from trainer.strategies.progressive_shrinking import ProgressiveShrinking, ProgressiveShrinkingModule
from trainer.strategy import SearchSettings

Sampling = Literal["uniform", "fair"]


class RandomOneShotModule(ProgressiveShrinkingModule):
    """The search loop around the training module."""

    def __init__(self, training_module: VQAModule, fair: bool):
        super().__init__(training_module, whole=0.0, shrinking=0.0)
        self.fair = fair

    def passes(self, batch_idx: int) -> list[list[list[int] | None]]:
        """Samples the paths of a step: each pass keeps one candidate of each choice."""
        orders = [noise.argsort(descending=True).tolist() for noise in self.noises()]
        count = max(map(len, orders)) if self.fair else 1
        return [[[order[place % len(order)]] for order in orders] for place in range(count)]


class RandomOneShot(ProgressiveShrinking):
    """Trains any NNI model space of `LayerChoice` and `InputChoice` (of one) at random paths.

    Args:
        sampling: How the paths of a step are sampled.
    """

    def __init__(self, *, sampling: Sampling):
        super().__init__(whole=0.0, shrinking=0.0, architecture_lr=0.0)
        self.sampling = sampling

    def configure_oneshot_module(self, training_module: VQAModule) -> RandomOneShotModule:
        return RandomOneShotModule(training_module, self.sampling == "fair")


class RandomOneShotSettings(SearchSettings):
    """Settings of a random one-shot search."""

    strategy: Literal["random_one_shot"] = "random_one_shot"
    sampling: Sampling = "uniform"
    """How the paths of a step are sampled: ``uniform``, one path, or ``fair``, every candidate in one of several."""
    samples: int = Field(256, ge=1, le=10_000)
    """Number of architectures that are validated with the supernet's weights, see :mod:`trainer.derivation`."""

    def build(self) -> RandomOneShot:
        """Returns the strategy."""
        return RandomOneShot(sampling=self.sampling)
