"""The space ``paired``: every layer of a stack chooses a pair of operations, one for each stream.

It is the first attempt of NAS-VQA (Dang, 2020, https://github.com/DangChuong-DC/NAS-VQA-attempt). Only one page of its
summary is published. It gives the search strategy (SNAS); the operations SA, SGA and "modified CoA", with the figures
of the units of MCAN (arXiv 1906.10770) and of the dense co-attention of DCN (arXiv 1804.00775); a pool of pairs, SA-SA,
ID-SGA, SGA-ID, SA-ID, ID-SA and "permutations of pair-operation"; and that the "whole attention network topology" is
searched. The rest was chosen here:

- A pair is named (question)-(image), as MCAN names its SA(Y)-SGA(X, Y). The candidates are `PAIRS` and CoA.
- SA and SGA are the units of MCAN, each with a feed-forward and with the layer norm of MCAN. ID is the identity.
- Both sides of a layer see the input of the layer. SGA is guided by the input of the other stream and not, as in the
  figure of MCAN, by its output. So SGA-SGA is symmetric. MCAN is still a point of the space: SA-ID in every layer of
  the encoder, then ID-SGA in every layer of the decoder.
- CoA is the dense co-attention layer of DCN without a change and without a norm, since the modification is not known.
- No layer shares a choice or a weight with another one. The labels are ``layer1``, ``layer2`` and so on.
"""

from typing import Literal

from nni.nas.nn.pytorch import LayerChoice
from pydantic import Field
from torch import Tensor, nn

from model_space.contracts import Backbone, BackboneSettings, Choices, Listing
from model_space.graph import OTHER, ChainGraph, Edge, joint_edges
from model_space.operations import Identity, StdLayerNorm
from model_space.sizes import Count, OperationSizes
from model_space.spaces.dcn import DenseCoAttentionLayer
from model_space.spaces.mcan import UNITS, Decoder, Encoder

PAIRS = ("SA-SA", "ID-SA", "SA-ID", "ID-SGA", "SGA-ID", "SA-SGA", "SGA-SA", "SGA-SGA", "ID-ID")
"""The candidates of a layer that are pairs, each named (question)-(image)."""


class PairedSettings(BackboneSettings):
    """Parameters of the space. The defaults are MCAN's depth and DCN's number of memory slots."""

    name: Literal["paired"] = "paired"
    layers: Count = 6
    """Number of layers, each a choice."""
    memory_slots: int = Field(3, ge=0, le=1_000)
    """Number of learned positions to which CoA attends beside the real ones of each stream."""

    def build(self, sizes: OperationSizes) -> "Paired":
        """Returns the stack of layers."""
        return Paired(self, sizes)

    def drawing(self, choices: Choices) -> ChainGraph:
        """Returns the two chains of operations; CoA is one operation of both."""
        edges = []
        for layer in range(1, self.layers + 1):
            pair = choices[f"layer{layer}"]
            if pair == "CoA":
                edges += joint_edges(layer, "CoA")
                continue
            for stream, operation in zip(("question", "image"), pair.split("-"), strict=True):
                guide = (OTHER[stream], layer - 1) if operation == "SGA" else None
                edges.append(Edge(stream, layer - 1, layer, operation, guide))
        note = f"{UNITS} ID: identity. CoA: dense co-attention, of both streams."
        return ChainGraph({"question": "question", "image": "image"}, tuple(edges), note)

    @classmethod
    def listings(cls) -> list[Listing]:
        """Returns the space."""
        return [Listing("paired", "NAS-VQA 1", cls())]


class Pair(nn.Module):
    """A candidate of a layer: one operation on the question and one on the image, both from the input of the layer."""

    def __init__(self, question: nn.Module, image: nn.Module):
        super().__init__()
        self.question = question
        self.image = image

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps the features of both streams to features of the same shapes."""
        return (
            self.image(image, image_mask, question, question_mask),
            self.question(question, question_mask, image, image_mask),
        )


class Paired(Backbone):
    """The backbone of NAS-VQA's first attempt: a stack of layers, each of which is a choice."""

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
