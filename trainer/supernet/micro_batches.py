"""A step in parts: `search.accumulate` of them one after the other, each shared out to the processes of the search.

The loss is a sum over questions, so gradients of parts and of processes add up to those of the whole batch, if all are
computed at one sample of the architecture. What is drawn once a step is drawn by the first process and sent to the
others. What a layer draws whenever it is called (`gumbel_darts`, and labels whose sample is drawn at each call) follows
a seed that is drawn and sent likewise. Dropout differs from part to part and from process to process.

The seed and the samples come from torch's generator of the first process, which is in the checkpoint: there is nothing
else to keep. And a search in one process draws the same whether it is divided or not.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from trainer.data.vqa import Batch
from trainer.supernet.choices import gumbel, mixed_modules


class CallNoise:
    """Gumbel noise for layers that draw when they are called.

    Call n depends on the seed and n alone, and its rows come one after the other: where questions have fewer words, as
    those of another process may, the noise of the first time steps is the same.
    """

    def restart(self, seed: int) -> None:
        self.seed, self.calls = seed, 0

    def __call__(self, logits: Tensor) -> Tensor:
        generator = np.random.default_rng((self.seed, self.calls))
        self.calls += 1
        return torch.from_numpy(generator.gumbel(size=logits.shape)).to(logits)


class StepInParts:
    """Mixed into a ``DartsLightningModule``."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.call_noise = CallNoise()
        softmaxes = [module._softmax for module in mixed_modules(self)]
        self.drawing = [softmax for softmax in softmaxes if getattr(softmax, "each_call", False)]
        for softmax in self.drawing:
            softmax.noise = self.call_noise

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """This process's share of a batch in parts, each to be computed before the next is asked for."""
        if self.drawing:
            seed = self.trainer.strategy.broadcast(torch.randint(2**62, ()).item())
        count = self.training_module.settings.accumulate
        for place in range(count):
            if self.drawing:
                self.call_noise.restart(seed)
            yield Batch(*(each[place::count].contiguous() for each in batch))

    def noise(self, logits: Tensor) -> Tensor:
        """Gumbel noise, the same on every process."""
        noise = gumbel(logits)
        if self.trainer.world_size > 1:
            torch.distributed.broadcast(noise, 0)
        return noise

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Makes each gradient the sum of those of all processes.

        They are at one sample, so the same parameters have a gradient on each.
        """
        if self.trainer.world_size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(joined)
        for gradient, part in zip(gradients, joined.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
