"""What a network answers, and how right it is."""

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from model_space.errors import InputError
from trainer.data.answers import AccuracyVariant
from trainer.data.vqa import Batch, VQADataset, loader
from trainer.evaluation.vqa_accuracy import Accuracy, Evaluator
from trainer.module import answer_logits, soft_accuracy

BATCH = 256
"""Number of questions of a batch. Without gradients more fit than in training."""


def move(batch: Batch, device: torch.device) -> Batch:
    return Batch(*(tensor.to(device, non_blocking=True) for tensor in batch))


@torch.inference_mode()
def by_question(
    network: nn.Module, dataset: VQADataset | Subset, measure: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Applies ``measure`` to logits ``(B, A)`` and targets ``(B, A)``; returns a value for every question, in order.

    Leaves the network in its mode, and waits for the device once, at the end.
    """
    training, device = network.training, next(network.parameters()).device
    network.eval()
    batches = loader(dataset, BATCH)
    measured = torch.cat(
        [measure(answer_logits(network, batch), batch.targets) for batch in (move(each, device) for each in batches)]
    ).cpu()
    network.train(training)
    in_order = torch.empty_like(measured)
    in_order[list(chain.from_iterable(batches.sampler))] = measured
    return in_order


def mean_soft_accuracy(network: nn.Module, dataset: VQADataset | Subset) -> float:
    """Returns the accuracy in percent by soft targets, which the curves show."""
    return 100 * by_question(network, dataset, soft_accuracy).mean().item()


def answers(network: nn.Module, dataset: VQADataset) -> dict[int, str]:
    """Returns the best answer to every question, by question id."""
    best = by_question(network, dataset, lambda logits, targets: logits.argmax(1)).tolist()
    vocabulary = dataset.vocabulary.answers
    return {question: vocabulary[i] for question, i in zip(dataset.question_ids, best, strict=True)}


def evaluate(network: nn.Module, dataset: VQADataset, variant: AccuracyVariant = "official") -> Accuracy:
    """Returns the VQA accuracy of a network on a split.

    Raises:
        InputError: The split has no annotations.
    """
    if dataset.annotations is None:
        raise InputError("the accuracy cannot be computed: the questions have no annotations")
    return Evaluator(dataset.annotations, variant)(answers(network, dataset))
