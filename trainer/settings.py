"""Settings that a search and a training have in common: how long the loop runs, and how it steps."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Epochs = Annotated[int, Field(ge=1, le=100_000)]
"""A number of epochs, or of one."""
Rate = Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)]
"""A learning rate."""
WARMUP = r"[1-9]\d{0,6} (steps|epochs)"


class LoopSettings(BaseModel):
    """A loop over batches with Adam (0.9, 0.98), or Muon beside it, a warm-up and steps of decay, as MCAN has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the weights, of the batches and of the samples."""
    epochs: Epochs = 13
    """Number of epochs."""
    steps_per_epoch: int | None = Field(None, ge=1, le=10_000_000)
    """Number of steps after which an epoch ends. Null means when all training questions were seen."""
    batch_size: int = Field(64, ge=1, le=1_000_000)
    """Number of questions of a step, those of all processes together."""
    accumulate: int = Field(1, ge=1, le=1_000_000)
    """Number of micro-batches of a step, computed one after the other. Their gradients are added: the step is the
    same, and takes less memory."""
    lr: Rate = 1e-4
    """Learning rate of the weights."""
    matrix_lr: Rate | None = None
    """Learning rate of the matrices of hidden layers, if they are to be moved by Muon (:mod:`trainer.muon`), by which a
    network of the embedded data learns in half of the steps. Null: Adam moves them as all else."""
    matrix_momentum: float = Field(0.95, ge=0, lt=1)
    """Momentum of the matrices that Muon moves."""
    warmup: str | None = Field(None, pattern=f"^{WARMUP}$")
    """How the learning rate rises at the start. ``200 steps``: linearly over these steps. ``3 epochs``: by a stair in
    each epoch, 1/4, 2/4 and 3/4 of `lr` in the first three, as MCAN has it. Null: not at all."""
    decay_epochs: tuple[Epochs, ...] = ()
    """Epochs after each of which the learning rate is multiplied by `decay`."""
    decay: float = Field(0.2, gt=0, le=1)
    """What the learning rate is multiplied by after the epochs of `decay_epochs`."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """``bf16-mixed`` computes matrix products in bfloat16 and keeps the weights in single precision."""
    tf32: bool = False
    """Whether a GPU may compute products of single precision with 10 bits of mantissa."""
    checkpoint_minutes: float = Field(10, gt=0, le=1_000_000)
    """Minutes between two checkpoints within an epoch. One is written at the end of each epoch anyway."""

    def lr_scale(self, step: int, steps_per_epoch: int) -> float:
        """Returns the learning rate of a step as a multiple of `lr`.

        Args:
            step: Number of the step, from 0.
            steps_per_epoch: Number of steps of an epoch.

        Example:
            >>> [LoopSettings(warmup="3 epochs").lr_scale(step, steps_per_epoch=2) for step in range(0, 8, 2)]
            [0.25, 0.5, 0.75, 1.0]
        """
        scale = self.decay ** sum(step >= epoch * steps_per_epoch for epoch in self.decay_epochs)
        if self.warmup is None:
            return scale
        count, unit = self.warmup.split()
        if unit == "steps":
            return min(1.0, (step + 1) / int(count)) * scale
        return min(1.0, (step // steps_per_epoch + 1) / (int(count) + 1)) * scale
