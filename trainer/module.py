"""How a network, or a supernet, is trained: its loss, its optimiser, its learning rate."""

from typing import Any

import torch
from nni.nas.evaluator.pytorch import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional

from model_space.functional.dropout import dropout_sampled_ahead
from trainer.data.vqa import Batch
from trainer.muon import Muon
from trainer.settings import LoopSettings

SMALLEST = 16
"""The fewest rows and columns that a matrix has to be Muon's."""


def answer_logits(network: nn.Module, batch: Batch) -> Tensor:
    """Returns the logits of the answers, ``(B, A)``."""
    return network(batch.regions, batch.region_mask, batch.tokens, batch.token_mask, batch.boxes)


def soft_accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the soft target of each best answer, ``(B,)``.

    It is the VQA accuracy of that answer as long as all given answers are in the vocabulary.
    """
    return targets.gather(1, logits.argmax(1, keepdim=True)).squeeze(1)


class VQAModule(LightningModule):
    """Trains by the binary cross-entropy of every answer against its soft target, summed over answers and questions.

    Args:
        settings: Learning rate and precision.
        steps_per_epoch: Number of optimiser steps of an epoch.
        micro_batches: Number of micro-batches of a step, of all processes together. Lightning takes the mean of their
            gradients; this makes it the sum.
    """

    sums: Tensor
    """Loss and accuracy of the epoch so far, summed over its questions: ``(2,)`` float64 on the device. A sum that is
    not finite stays so. In this way a loss that was not finite is found without waiting for the device at each step."""
    questions: int
    """Number of questions that are in the sums."""

    def __init__(self, settings: LoopSettings, steps_per_epoch: int, micro_batches: int = 1):
        super().__init__()
        self.settings = settings
        self.steps_per_epoch = steps_per_epoch
        self.micro_batches = micro_batches
        self.restart_sums()
        torch.backends.cuda.matmul.allow_tf32 = settings.tf32

    def restart_sums(self) -> None:
        """Begins the sums of an epoch."""
        self.sums, self.questions = torch.zeros(2, dtype=torch.float64), 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        with dropout_sampled_ahead():
            logits = answer_logits(self.model, batch)
        loss = functional.binary_cross_entropy_with_logits(logits, batch.targets, reduction="sum")
        with torch.no_grad():
            accuracy = soft_accuracy(logits, batch.targets).sum()
            self.sums = self.sums.to(loss.device, non_blocking=True) + torch.stack([loss, accuracy]).double()
        self.questions += len(batch.targets)
        return loss * self.micro_batches if self.micro_batches > 1 else loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        settings, moved = self.settings, [parameter for parameter in self.parameters() if parameter.requires_grad]
        options: dict[str, Any] = {"lr": settings.lr, "betas": (0.9, 0.98), "eps": 1e-9, "fused": True}
        optimizer: torch.optim.Adam
        if settings.matrix_lr is None:
            optimizer = torch.optim.Adam(moved, **options)
        else:
            hidden = {id(matrix) for matrix in hidden_matrices(self.model)}
            matrices = [each for each in moved if id(each) in hidden]
            others = [each for each in moved if id(each) not in hidden]
            rate, momentum = settings.matrix_lr, settings.matrix_momentum
            optimizer = Muon(others, matrices, matrix_lr=rate, momentum=momentum, **options)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: settings.lr_scale(step, self.steps_per_epoch)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Returns the matrices that Muon moves: those of hidden layers, not of words nor of answers, and no small ones."""
    ends = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Embedding)}
    ends.add("classifier.weight")
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.ndim == 2 and min(parameter.shape) >= SMALLEST and name not in ends
    ]


def training_module(module: LightningModule) -> VQAModule:
    """Returns the module of the training itself, which a search wraps into a module of its strategy."""
    return getattr(module, "training_module", module)
