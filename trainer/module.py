"""How a network, or a supernet, is trained: loss, optimiser, learning rate."""

from typing import Literal

import torch
from nni.nas.evaluator.pytorch import LightningModule
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from model_space.functional import dropout_drawn_ahead
from trainer.data.vqa import Batch


class LoopSettings(BaseModel):
    """Adam (0.9, 0.98) with warm-up and steps of decay, as MCAN has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lr: float = Field(1e-4, gt=0)
    warmup_steps: int = Field(0, ge=0)
    """the learning rate rises linearly over these steps"""
    warmup_epochs: int = Field(0, ge=0)
    """or by a step in each of these epochs: with 3 it is 1/4, 2/4 and 3/4 of `lr` in the first three, as MCAN has it"""
    decay_epochs: tuple[int, ...] = ()
    """after each of these epochs the learning rate is multiplied by `decay`"""
    decay: float = Field(0.2, gt=0, le=1)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """bf16-mixed: matrix products in bfloat16, weights in single precision"""
    tf32: bool = False
    """on a GPU that has it: single-precision products with 10 bits of mantissa"""
    checkpoint_minutes: float = Field(10, gt=0)
    """time between two checkpoints within an epoch; one is written at each epoch's end anyway"""
    accumulate: int = Field(1, ge=1)
    """the questions of a step are computed in so many parts, one after the other, whose gradients are added: the step
    is the same, its memory is less"""

    @model_validator(mode="after")
    def _one_warmup(self):
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps} and warmup_epochs is {self.warmup_epochs}, expected one of them "
                "to be 0"
            )
        return self

    def scale(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of a step, counted from 0, as a multiple of `lr`."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        warmup *= min(1.0, (step // steps_per_epoch + 1) / (self.warmup_epochs + 1))
        return warmup * self.decay ** sum(step >= epoch * steps_per_epoch for epoch in self.decay_epochs)


def answer_logits(network: nn.Module, batch: Batch) -> Tensor:
    """Scores of the answers, ``(B, A)``."""
    return network(batch.regions, batch.region_mask, batch.tokens, batch.token_mask, batch.boxes)


def soft_accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """The soft target of each best answer, ``(B,)``: its VQA accuracy as long as the answer is in the vocabulary."""
    return targets.gather(1, logits.argmax(1, keepdim=True)).squeeze(1)


class VQAModule(LightningModule):
    """Binary cross-entropy of every answer against its soft target, summed over answers and questions.

    Args:
        parts: into how many parts, all processes together, the batch of a step is divided. Lightning takes the mean of
            their gradients; this makes it the sum.
    """

    sums: Tensor
    """(2,) float64 on the device: loss and accuracy of the epoch so far, summed over its questions. A sum that is not
    finite stays so, which is how a loss that was not is found without waiting for the device at each step."""
    questions: int
    """over how many"""

    def __init__(self, settings: LoopSettings, steps_per_epoch: int, parts: int = 1):
        super().__init__()
        self.settings = settings
        self.steps_per_epoch = steps_per_epoch
        self.parts = parts
        self.restart_sums()
        torch.backends.cuda.matmul.allow_tf32 = settings.tf32

    def restart_sums(self) -> None:
        self.sums, self.questions = torch.zeros(2, dtype=torch.float64), 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        with dropout_drawn_ahead():
            logits = answer_logits(self.model, batch)
        loss = functional.binary_cross_entropy_with_logits(logits, batch.targets, reduction="sum")
        with torch.no_grad():
            accuracy = soft_accuracy(logits, batch.targets).sum()
            self.sums = self.sums.to(loss.device, non_blocking=True) + torch.stack([loss, accuracy]).double()
        self.questions += len(batch.targets)
        return loss * self.parts if self.parts > 1 else loss

    def configure_optimizers(self):
        weights = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(weights, lr=self.settings.lr, betas=(0.9, 0.98), eps=1e-9, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.settings.scale(step, self.steps_per_epoch)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def training_module(module: LightningModule) -> VQAModule:
    """The module of training itself, which a search wraps into one of its strategy."""
    return getattr(module, "training_module", module)
