"""The processes of one training: one, or as many as ``torchrun`` has started."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from pytorch_lightning.strategies import DDPStrategy


@dataclass(frozen=True)
class Processes:
    """Where this process stands among those that train one network together."""

    rank: int = 0
    world_size: int = 1
    here: int = 1
    """how many of them are on this machine"""

    @classmethod
    def of_torchrun(cls) -> Self:
        """As the environment says that ``torchrun`` makes; without it, one alone."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        return cls(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))

    @property
    def trainer_options(self) -> dict[str, Any]:
        """For Lightning's trainer."""
        if self.world_size == 1:
            return {"devices": 1}
        return {
            "devices": self.here,
            "num_nodes": self.world_size // self.here,
            # An architecture may leave weights out, behind an operation `none`: they have no gradient to wait for.
            # The timeout is longer than a validation, which the first process does while the others wait.
            "strategy": DDPStrategy(find_unused_parameters=True, timeout=timedelta(hours=6)),
            "use_distributed_sampler": False,  # the batches are shared out already
        }
