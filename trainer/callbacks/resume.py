"""What a run needs, beside its weights, to end as if it had not been interrupted."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from model_space.errors import InputError
from trainer.data.batches import ShuffledBatches
from trainer.module import training_module


class Resume(Callback):
    """Puts into the checkpoint what Lightning does not, so that a resumed run ends as if it had not been interrupted.

    That is the place in the order of the questions, the sums of the epoch so far, and the states of torch's random
    numbers. Each of several processes has its own state: with the same, all would drop the same elements.

    Args:
        samplers: Samplers of the loaders of the run.
    """

    KEY = "resume"

    def __init__(self, samplers: Sequence[ShuffledBatches]):
        self.samplers = samplers
        self.place = 0, 0
        self.restored: dict[str, Any] | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.place = trainer.current_epoch, batch_idx + 1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.place = trainer.current_epoch + 1, 0

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        module = training_module(pl_module)
        own = {
            "sums": module.sums.cpu(),
            "questions": module.questions,
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
        }
        processes: list[Any] = [own]
        if trainer.world_size > 1:
            processes = [None] * trainer.world_size
            torch.distributed.all_gather_object(processes, own)
        checkpoint[self.KEY] = {"place": self.place, "processes": processes}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint[self.KEY]
        if len(state["processes"]) != trainer.world_size:
            raise InputError(
                f"the checkpoint is of a run of {len(state['processes'])} processes, and these are "
                f"{trainer.world_size}: resume it with as many"
            )
        self.place = epoch, start = state["place"]
        self.restored = state["processes"][trainer.global_rank]
        for sampler in self.samplers:  # before their loaders are asked for a batch
            sampler.set_epoch(epoch, start)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not when the checkpoint is read: what is set up between there and here may draw random numbers.
        if self.restored is None:
            if trainer.global_rank:
                torch.manual_seed(torch.initial_seed() + trainer.global_rank)
            return
        if self.place[1]:
            # Lightning does not begin an epoch a second time, but a strategy is to know that it is in one.
            pl_module.on_train_epoch_start()
        module = training_module(pl_module)
        module.sums, module.questions = self.restored["sums"], self.restored["questions"]
        torch.set_rng_state(self.restored["cpu"])
        torch.cuda.set_rng_state_all(self.restored["cuda"])
