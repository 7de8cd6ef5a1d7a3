"""A step in micro-batches: `search.accumulate` of them one after the other, each shared out to the processes.

The loss is a sum over questions. So the gradients of micro-batches and of processes add up to those of the whole batch,
if all are computed at one sample of the architecture. What is sampled once a step is sampled by the first process and
sent to the others. What a layer samples whenever it is called (`gumbel_darts`, and labels that are sampled at each
call) follows a seed that is sampled and sent likewise. Dropout differs from micro-batch to micro-batch and from process
to process.

The seed and the samples come from torch's generator of the first process, which is in the checkpoint: there is nothing
else to keep. And a search in one process samples the same whether a step is divided or not.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from nni.nas.oneshot.pytorch.differentiable import DartsLightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.data.vqa import Batch
from trainer.module import VQAModule
from trainer.supernet.choices import gumbel, mixed_modules, weighting


def moved_by(optimizer: Optimizer) -> list[nn.Parameter]:
    """Returns the parameters of all groups of an optimiser."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


class CallNoise:
    """Gumbel noise for layers that sample when they are called.

    The noise of the n-th call depends on the seed and on n alone, and its rows come one after the other. Where
    questions have fewer words, as those of another process may, the noise of the first time steps is the same.
    """

    def restart(self, seed: int) -> None:
        """Begins to count calls anew."""
        self.seed, self.calls = seed, 0

    def __call__(self, logits: Tensor) -> Tensor:
        generator = np.random.default_rng((self.seed, self.calls))
        self.calls += 1
        return torch.from_numpy(generator.gumbel(size=logits.shape)).to(logits)


class MicroBatches(DartsLightningModule):
    """A search module that computes a step in micro-batches, on each process its share."""

    training_module: VQAModule

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.call_noise = CallNoise()
        weightings = [weighting(module) for module in mixed_modules(self)]
        self.sampling: list[Any] = [each for each in weightings if getattr(each, "each_call", False)]
        for each in self.sampling:
            each.noise = self.call_noise

    def micro_batches(self, batch: Batch) -> Iterator[Batch]:
        """Yields this process's share of a batch in micro-batches; each is to be computed before the next is taken."""
        if self.sampling:
            seed = self.trainer.strategy.broadcast(torch.randint(2**62, ()).item())
        count = self.training_module.settings.accumulate
        for place in range(count):
            if self.sampling:
                self.call_noise.restart(seed)
            yield Batch(*(each[place::count].contiguous() for each in batch))

    def noise(self, logits: Tensor) -> Tensor:
        """Returns Gumbel noise that is the same on every process."""
        noise = gumbel(logits)
        if self.trainer.world_size > 1:
            torch.distributed.broadcast(noise, 0)
        return noise

    def all_reduce(self, parameters: Iterable[nn.Parameter]) -> None:
        """Makes each gradient the sum of those of all processes.

        All processes are at one sample, so the same parameters have a gradient on each.
        """
        if self.trainer.world_size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(joined)
        for gradient, part in zip(gradients, joined.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
