"""Asks a network one question about one image: what it answers, and where it looks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from model_space.network import Network
from trainer.data.vocabulary import UNKNOWN, Vocabulary, tokenise


@dataclass(frozen=True)
class Prediction:
    answers: list[tuple[str, float]]
    """The best answers with their probabilities, the best first."""
    attention: Tensor
    """How much the network attends to each region where it flattens the image, ``(N,)``, summing to 1. It is the mean
    of the glimpses."""
    read: list[str]
    """The words of the question that the network was given."""
    left_out: int
    """Number of words of the question after those."""
    unknown: list[str]
    """Those of the given words that the vocabulary does not have, each once."""


@torch.inference_mode()
def predict(
    network: Network,
    vocabulary: Vocabulary,
    regions: Tensor,
    boxes: Tensor,
    question: str,
    max_tokens: int,
    best: int = 5,
) -> Prediction:
    """Asks a network a question about an image. A question without words is, as in training, one unknown word.

    Args:
        network: A network in evaluation mode.
        vocabulary: The words and answers that the network knows.
        regions: Features of the regions, ``(N, D)``.
        boxes: Corners x1, y1, x2, y2 of the regions in pixels, ``(N, 4)``.
        question: The question.
        max_tokens: Number of words of a question that the network was trained on. Words after those are left out.
        best: Number of answers that are wanted.
    """
    words = tokenise(question)
    read = words[:max_tokens]
    device = next(network.parameters()).device
    tokens = torch.tensor([vocabulary.encode(question, max_tokens) or [UNKNOWN]], device=device)
    batch = regions[None].to(device), boxes[None].to(device)
    maps: list[Tensor] = []
    with network.flatten_image.register_forward_hook(
        lambda flatten, inputs, output: maps.append(flatten.attention(*inputs))
    ):
        logits = network(
            batch[0],
            torch.ones(batch[0].shape[:2], dtype=torch.bool, device=device),
            tokens,
            torch.ones_like(tokens, dtype=torch.bool),
            batch[1],
        )
    probabilities, indices = logits.squeeze(0).sigmoid().topk(min(best, logits.size(1)))
    return Prediction(
        [(vocabulary.answers[i], p) for i, p in zip(indices.tolist(), probabilities.tolist(), strict=True)],
        maps[0].squeeze(0).mean(-1).cpu(),
        read,
        len(words) - len(read),
        [word for word in dict.fromkeys(read) if word not in vocabulary.word_index],
    )
