"""The space ``paired``: every layer of a stack chooses a pair of operations, one for each stream.

The first attempt of NAS-VQA (Dang, 2020). Nothing of it is published but a page of its summary, which gives: the
search strategy (SNAS); operations SA, SGA and "modified CoA", with the figures of MCAN's units (arXiv 1906.10770) and
of DCN's dense co-attention (arXiv 1804.00775); a pool of pairs, SA-SA, ID-SGA, SGA-ID, SA-ID, ID-SA and "permutations
of pair-operation"; and that the "whole attention network topology" is searched. Chosen here:

- A pair is named (question)-(image), as MCAN names its SA(Y)-SGA(X, Y). The pool is the ten pairs of `PAIRS` and CoA.
- SA and SGA are MCAN's units, each with a feed-forward and with MCAN's own layer norm; ID passes its stream on.
- Both sides of a layer see what went *into* the layer: SGA is guided by the other stream's input and not, as in MCAN's
  figure, by its output. So SGA-SGA is symmetric and has no order. MCAN is a point of the space all the same: SA-ID in
  every layer of the encoder, then ID-SGA in every layer of the decoder.
- CoA is the dense co-attention layer of DCN as it is, without a norm: what was modified is not known.
- No layer shares a choice or a weight with another: labels ``layer1``, ``layer2`` and so on.
"""

from typing import Literal

from nni.nas.nn.pytorch import LayerChoice
from pydantic import Field
from torch import Tensor, nn

from model_space.contracts import Backbone, BackboneSettings, Choices, Listing
from model_space.graph import ChainGraph, Edge, joint_edges
from model_space.operations import Identity, StdLayerNorm
from model_space.sizes import OperationSizes
from model_space.spaces.dcn import DenseCoAttentionLayer
from model_space.spaces.mcan import UNITS, Decoder, Encoder

PAIRS = ("SA-SA", "ID-SA", "SA-ID", "ID-SGA", "SGA-ID", "SA-SGA", "SGA-SA", "SGA-SGA", "ID-ID")
"""(question)-(image)"""


class PairedSettings(BackboneSettings):
    """Parameters of the space. The defaults are MCAN's depth and DCN's number of memory slots."""

    name: Literal["paired"] = "paired"
    layers: int = Field(6, ge=1)
    """Number of layers, each a choice."""
    memory_slots: int = Field(3, ge=0)
    """Number of learned positions to which CoA attends beside the real ones of each stream."""

    def build(self, sizes: OperationSizes) -> "Paired":
        """Returns the stack of layers."""
        return Paired(self, sizes)

    def drawing(self, choices: Choices) -> ChainGraph:
        """Returns the two chains of operations; CoA is one operation of both."""
        other = {"image": "question", "question": "image"}
        edges = []
        for layer in range(1, self.layers + 1):
            pair = choices[f"layer{layer}"]
            if pair == "CoA":
                edges += joint_edges(layer, "CoA")
                continue
            for stream, operation in zip(("question", "image"), pair.split("-"), strict=True):
                guide = (other[stream], layer - 1) if operation == "SGA" else None
                edges.append(Edge(stream, layer - 1, layer, operation, guide))
        note = f"{UNITS} ID: identity. CoA: dense co-attention, of both streams."
        return ChainGraph({"question": "question", "image": "image"}, tuple(edges), note)

    @classmethod
    def listings(cls) -> list[Listing]:
        """Returns the space."""
        return [Listing("paired", "NAS-VQA 1", cls())]


class Pair(nn.Module):
    """One operation on the question, one on the image, both from the features that are given."""

    def __init__(self, question: nn.Module, image: nn.Module):
        super().__init__()
        self.question = question
        self.image = image

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps ``(B, N, hidden)`` and ``(B, T, hidden)`` to features of the same shapes."""
        return (
            self.image(image, image_mask, question, question_mask),
            self.question(question, question_mask, image, image_mask),
        )


class Paired(Backbone):
    """The backbone: a stack of layers, each a choice."""

    head_norm = StdLayerNorm

    def __init__(self, settings: PairedSettings, sizes: OperationSizes):
        super().__init__()
        units = {"SA": lambda: Encoder(sizes), "SGA": lambda: Decoder(sizes), "ID": Identity}

        def choose_pair(label: str) -> LayerChoice:
            pairs = {pair: Pair(*(units[unit]() for unit in pair.split("-"))) for pair in PAIRS}
            return LayerChoice(pairs | {"CoA": DenseCoAttentionLayer(sizes, settings.memory_slots)}, label=label)

        self.layers = nn.ModuleList(choose_pair(f"layer{layer}") for layer in range(1, settings.layers + 1))

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps the features of both streams to features of the same shapes. It does not look at the boxes."""
        for layer in self.layers:
            image, question = layer(image, image_mask, question, question_mask)
        return image, question
