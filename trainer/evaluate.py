"""What a network answers, and how right it is."""

import torch
from torch import nn

from trainer.accuracy import Accuracy, Evaluator
from trainer.data.vqa import VQADataset, loader
from trainer.module import answer_logits, soft_accuracy

BATCH = 256
"""questions a batch: without gradients more fit than in training"""


def move(batch, device: torch.device):
    return type(batch)(*(tensor.to(device, non_blocking=True) for tensor in batch))


@torch.inference_mode()
def mean_soft_accuracy(network: nn.Module, dataset: VQADataset) -> float:
    """Accuracy in percent, by soft targets: what the curves show. Leaves the network in its mode."""
    training, device = network.training, next(network.parameters()).device
    network.eval()
    scores = [
        soft_accuracy(answer_logits(network, batch), batch.targets)
        for batch in (move(batch, device) for batch in loader(dataset, BATCH))
    ]
    network.train(training)
    return 100 * torch.cat(scores).mean().item()


@torch.inference_mode()
def answers(network: nn.Module, dataset: VQADataset) -> dict[int, str]:
    """The best answer to every question, by question id."""
    network.eval()
    device = next(network.parameters()).device
    best = torch.cat(
        [answer_logits(network, move(batch, device)).argmax(1).cpu() for batch in loader(dataset, BATCH)]
    ).tolist()
    vocabulary = dataset.vocabulary.answers
    return {question: vocabulary[i] for question, i in zip(dataset.question_ids, best, strict=True)}


def evaluate(network: nn.Module, dataset: VQADataset) -> Accuracy:
    """The official VQA accuracy of a network on a split with annotations."""
    return Evaluator(dataset.annotations)(answers(network, dataset))
