"""The space ``stacked``: two streams, image and question, through a stack of cells that share one set of choices.

The second attempt ("RNN graph") of NAS-VQA (Dang, 2020). A cell takes the outputs of the two cells before it, each
through a feed-forward, and averages them into node 0. Every further node computes, in each stream, from the nodes
before it; the cell's output is the mean of the nodes 1 to ``nodes``. It exists in two forms:

``edges="all"``
    an operation is chosen on *every* edge j → i; a node sums its edges and normalises the sum.
    Labels ``image_node2_from0`` and so on. What NAS-VQA searches.
``edges="one"``
    a node chooses *one* predecessor and one operation in each stream; no further norm.
    Labels ``image_node2_input`` and ``image_node2_operation``. What NAS-VQA trains.

An operation of a stream always takes the state of both streams at the node where its edge begins: the state of its
own stream is what it transforms, that of the other stream guides it.
"""

from typing import Literal

from nni.nas.nn.pytorch import InputChoice, LayerChoice
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from model_space.operations import FeedForward, GuidedAttention, Identity, SelfAttention, Sizes, Zero, plain_norm

STREAMS = ("image", "question")

State = tuple[Tensor, Tensor]
"""Features of the image ``(B, N, hidden)`` and of the question ``(B, T, hidden)``."""


class StackedSettings(BaseModel):
    """Parameters of the space; the defaults are the sizes of NAS-VQA."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["stacked"] = "stacked"
    edges: Literal["all", "one"] = "all"
    cells: int = Field(3, ge=1)
    nodes: int = Field(4, ge=1)


class Cell(nn.Module):
    """One cell: ``(B, N, hidden), (B, T, hidden)`` of the two cells before it to the same shapes."""

    def __init__(self, settings: StackedSettings, sizes: Sizes):
        super().__init__()
        self.edges = settings.edges
        hidden, heads, dropout, channel_dropout = sizes.hidden, sizes.heads, sizes.dropout, sizes.channel_dropout

        def feed_forward() -> FeedForward:
            return FeedForward(hidden, sizes.inner, dropout, channel_dropout)

        def choose_operation(label: str) -> LayerChoice:
            return LayerChoice(
                {
                    "none": Zero(),
                    "identity": Identity(),
                    "feed_forward": feed_forward(),
                    "self_attention": SelfAttention(hidden, heads, dropout, channel_dropout),
                    "guided_attention": GuidedAttention(hidden, heads, dropout, channel_dropout),
                },
                label=label,
            )

        self.before = nn.ModuleDict({stream: nn.ModuleList([feed_forward(), feed_forward()]) for stream in STREAMS})
        self.operations = nn.ModuleDict()
        self.inputs = nn.ModuleDict()
        for node in range(1, settings.nodes + 1):
            for stream in STREAMS:
                name = f"{stream}_node{node}"
                if settings.edges == "all":
                    edges = [choose_operation(f"{name}_from{source}") for source in range(node)]
                    self.operations[name] = nn.ModuleList(edges)
                else:
                    self.inputs[name] = InputChoice(node, n_chosen=1, label=f"{name}_input")
                    self.operations[name] = choose_operation(f"{name}_operation")
        self.nodes = settings.nodes
        self.norm = plain_norm(hidden)

    def forward(self, before_last: State, last: State, masks: tuple[Tensor, Tensor]) -> State:
        states = [self.node0(before_last, last)]
        for node in range(1, self.nodes + 1):
            states.append((self.node(node, 0, states, masks), self.node(node, 1, states, masks)))
        image, question = zip(*states[1:], strict=True)
        return sum(image) / self.nodes, sum(question) / self.nodes

    def node0(self, before_last: State, last: State) -> State:
        image, question = (
            (self.before[stream][0](before_last[i]) + self.before[stream][1](last[i])) / 2
            for i, stream in enumerate(STREAMS)
        )
        return image, question

    def node(self, node: int, stream: int, states: list[State], masks: tuple[Tensor, Tensor]) -> Tensor:
        """The state of one stream (0 image, 1 question) at a node."""
        name = f"{STREAMS[stream]}_node{node}"
        x_mask, y_mask = masks[stream], masks[1 - stream]
        if self.edges == "all":
            edges = zip(self.operations[name], states, strict=True)
            return self.norm(sum(edge(state[stream], x_mask, state[1 - stream], y_mask) for edge, state in edges))
        state = self.inputs[name](states)
        return self.operations[name](state[stream], x_mask, state[1 - stream], y_mask)


class Stacked(nn.Module):
    """The backbone: a stack of cells, then one feed-forward a stream."""

    head_norm = nn.LayerNorm

    def __init__(self, settings: StackedSettings, sizes: Sizes):
        super().__init__()
        self.cells = nn.ModuleList(Cell(settings, sizes) for _ in range(settings.cells))
        after = sizes.hidden, sizes.inner, sizes.dropout, sizes.channel_dropout
        self.after = nn.ModuleDict({stream: FeedForward(*after) for stream in STREAMS})

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps ``(B, N, hidden)`` and ``(B, T, hidden)`` to features of the same shapes; does not look at the boxes."""
        before_last = last = (image, question)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last, (image_mask, question_mask))
        return self.after["image"](last[0]), self.after["question"](last[1])
