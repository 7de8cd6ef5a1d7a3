"""The processes of one training or search: one, or as many as ``torchrun`` has started."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import torch
from pytorch_lightning.strategies import DDPStrategy

from model_space.errors import InputError


class Unwrapped(DDPStrategy):
    """A strategy of Lightning's for a module that adds up the gradients of the processes itself, after its step.

    As where it is wrapped, all start with what the first one has.
    """

    def configure_ddp(self) -> None:
        assert self.model  # Lightning has set it
        for tensor in self.model.state_dict().values():
            torch.distributed.broadcast(tensor, 0)


@dataclass(frozen=True)
class Processes:
    """Where this process stands among those that train one network together."""

    rank: int = 0
    world_size: int = 1
    here: int = 1
    """Number of the processes that are on this machine."""

    @classmethod
    def of_torchrun(cls) -> Self:
        """Returns what the environment says that ``torchrun`` makes; without it, one process alone."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        return cls(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))

    def micro_batches(self, section: str, batch_size: int, accumulate: int) -> int:
        """Returns into how many micro-batches the questions of a step are divided, those of all processes together.

        Raises:
            InputError: The questions cannot be divided so.
        """
        count = accumulate * self.world_size
        if batch_size % count:
            raise InputError(
                f"{section}.batch_size: {batch_size} questions cannot be divided into {accumulate} micro-batches "
                f"({section}.accumulate) for each of {self.world_size} processes"
            )
        return count

    def trainer_options(self, strategy: type[DDPStrategy] = DDPStrategy) -> dict[str, Any]:
        """Returns options of Lightning's trainer."""
        if self.world_size == 1:
            return {"devices": 1}
        return {
            "devices": self.here,
            "num_nodes": self.world_size // self.here,
            # An architecture may leave weights out, behind an operation `none`: they have no gradient to wait for.
            # The timeout is longer than a validation, which the first process does while the others wait.
            "strategy": strategy(find_unused_parameters=True, timeout=timedelta(hours=6)),
            "use_distributed_sampler": False,  # the batches are shared out already
        }
