"""Asks a network one question about one image: what it answers, and where it looks."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from model_space.network import AttentionFlatten, Network
from model_space.operations import Attention, GuidedAttention
from trainer.data.vocabulary import UNKNOWN, Vocabulary, tokenise


@dataclass(frozen=True)
class Prediction:
    answers: list[tuple[str, float]]
    """The best answers with their probabilities, the best first."""
    attention: Tensor
    """How much the network attends to each region where it flattens the image, ``(N,)``, summing to 1. It is the mean
    of the glimpses."""
    attentions: list[tuple[str, Tensor]]
    """The same of each attention over the regions before that, in the order in which they are computed, with its class:
    the mean over the heads and over what attends, weighted by how much that counts where its stream is flattened."""
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
    region_mask = torch.ones(batch[0].shape[:2], dtype=torch.bool, device=device)
    token_mask = torch.ones_like(tokens, dtype=torch.bool)
    flattened: dict[str, Tensor] = {}
    maps: list[tuple[str, Tensor]] = []

    def keep_flattened(stream: str, flatten: AttentionFlatten, inputs: tuple[Tensor, Tensor]) -> None:
        flattened[stream] = flatten.attention(*inputs)[0].mean(-1)

    def keep_map(name: str, attention: Attention, inputs: tuple[Any, ...]) -> None:
        x, y, mask, *score_bias = inputs
        if mask is region_mask:
            maps.append((name, attention.weights(x, y, mask, *score_bias)[0].mean(0)))

    with ExitStack() as hooks:
        for stream in ("image", "question"):
            flatten = network.get_submodule(f"flatten_{stream}")
            hooks.enter_context(flatten.register_forward_pre_hook(partial(keep_flattened, stream)))
        for module in network.modules():
            if isinstance(attention := getattr(module, "attention", None), Attention):
                hook = partial(keep_map, type(module).__name__)
                hooks.enter_context(attention.register_forward_pre_hook(hook))
        logits = network(batch[0], region_mask, tokens, token_mask, batch[1])
    # What attends is the image's own regions in self-attention, and the question's words where these are guided.
    attentions = [
        (name, (flattened["question" if name == GuidedAttention.__name__ else "image"] @ weights).cpu())
        for name, weights in maps
    ]
    probabilities, indices = logits.squeeze(0).sigmoid().topk(min(best, logits.size(1)))
    return Prediction(
        [(vocabulary.answers[i], p) for i, p in zip(indices.tolist(), probabilities.tolist(), strict=True)],
        flattened["image"].cpu(),
        attentions,
        read,
        len(words) - len(read),
        [word for word in dict.fromkeys(read) if word not in vocabulary.word_index],
    )
