"""The plain form of a whole search's step, for benchmarks and tests to compare with.

Every operation is in its plain form (:mod:`model_space.functional.by_hand`), and, as NAS-VQA has it, every candidate of
a choice is computed and multiplied by its entry of the sample.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedInput, DifferentiableMixedLayer

from model_space.functional.by_hand import plain_forms
from trainer.strategies.snas import SampledInput, SampledLayer


@contextmanager
def plain() -> Iterator[None]:
    """Makes networks and supernets compute in the plain form, as long as the block lasts."""
    with (
        plain_forms(),
        patch.object(SampledLayer, "forward", DifferentiableMixedLayer.forward),
        patch.object(SampledInput, "forward", DifferentiableMixedInput.forward),
    ):
        yield
