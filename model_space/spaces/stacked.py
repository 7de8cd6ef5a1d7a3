"""The space ``stacked``: a stack of cells over two streams, image and question, which share one set of choices.

It is the second attempt of NAS-VQA (Dang, 2020, https://github.com/DangChuong-DC/NAS-VQA-attempt). A cell has one of
the two graphs of DARTS (Liu et al., 2018, arXiv 1806.09055, section 2.1). It takes the outputs of the two cells before
it, each through a feed-forward:

``graph="rnn"``
    The mean of the two is node 0, and the nodes 1 to ``nodes`` follow, as in the recurrent cell of DARTS.
``graph="cnn"``
    The two stay apart, as in the convolutional cell of DARTS. The predecessors of node i are, in this order: the cell
    before the last, the last cell, node 1, …, node i - 1. An edge is named by the position of its source, from 0.

In each stream, a node is computed from its predecessors. The output of the cell is the mean of the nodes 1 to
``nodes``. A cell has one of two forms:

``edges="all"``
    An operation is chosen on *every* edge, and a node normalises the sum of its edges. The labels are
    ``image_node2_from0`` and so on. NAS-VQA searches this form.
``edges="one"``
    A node keeps few edges, and nothing more is normalised. NAS-VQA trains this form. In the rnn graph a node keeps
    *one* edge a stream: it chooses a predecessor (label ``image_node2_input``) and an operation (label
    ``image_node2_operation``). In the cnn graph it keeps and sums *two*, as in DARTS: it chooses a pair of different
    predecessors (label ``image_node2_inputs``, candidates "0,1", "0,2" and so on) and an operation for each of them
    (label ``image_node2_operation1`` for the lower position, ``image_node2_operation2`` for the higher).

The pair is one `LayerChoice` and not an `InputChoice` of two predecessors, because the supernet of such an
`InputChoice` weighs all predecessors by one softmax, and never computes a pair.

An operation of a stream takes the states of both streams at the node where its edge begins. It transforms the state of
its own stream, and the state of the other stream guides it.

With ``relation_size``, the operations of the image have one more candidate, the relational self-attention of MMnasNet
(Yu et al., 2020, arXiv 2004.12070). NAS-VQA does not have it, and its cells do not see where the regions are.
"""

from collections.abc import Callable, Iterable
from functools import reduce
from itertools import combinations
from typing import Literal, Self

import torch
from nni.nas.nn.pytorch import InputChoice, LayerChoice
from pydantic import Field, model_validator
from torch import Tensor, nn

from model_space.contracts import Backbone, BackboneSettings, Choices, Listing
from model_space.graph import OTHER, CellGraph, Edge
from model_space.operations import (
    FeedForward,
    GuidedAttention,
    Identity,
    RelationalSelfAttention,
    SelfAttention,
    Zero,
    embedded_geometry,
    geometry_embedding,
    plain_norm,
)
from model_space.sizes import Count, OperationSizes, Width

STREAMS = ("image", "question")
"""The names of the streams, in the order in which a cell passes their features."""

State = tuple[Tensor, Tensor]
"""The features of the image, ``(B, N, hidden)``, and of the question, ``(B, T, hidden)``."""


def feed_forward(sizes: OperationSizes) -> FeedForward:
    return FeedForward(sizes.hidden, sizes.feed_forward_size, sizes.dropout, sizes.channel_dropout)


def self_attention(sizes: OperationSizes) -> SelfAttention:
    return SelfAttention(sizes.hidden, sizes.heads, sizes.dropout, sizes.channel_dropout)


def guided_attention(sizes: OperationSizes) -> GuidedAttention:
    return GuidedAttention(sizes.hidden, sizes.heads, sizes.dropout, sizes.channel_dropout)


OPERATIONS: dict[str, Callable[[OperationSizes], nn.Module]] = {
    "none": lambda sizes: Zero(),
    "identity": lambda sizes: Identity(),
    "feed_forward": feed_forward,
    "self_attention": self_attention,
    "guided_attention": guided_attention,
}
"""The candidates of every edge: the name of an operation, and the function that makes one."""


def operations_of(stream: str, relation_size: int | None) -> dict[str, Callable[[OperationSizes], nn.Module]]:
    """Returns the candidates of a stream's edges; those of the image have one more where there is a relation."""
    if stream != "image" or relation_size is None:
        return OPERATIONS

    def relational_self_attention(sizes: OperationSizes) -> RelationalSelfAttention:
        return RelationalSelfAttention(
            sizes.hidden, sizes.heads, sizes.dropout, relation_size, channel_dropout=sizes.channel_dropout
        )

    return OPERATIONS | {"relational_self_attention": relational_self_attention}


MOST = 10_000
"""The largest number of cells times the square of the number of nodes, as many as edges, more or less."""


class StackedSettings(BackboneSettings):
    """Parameters of the space. The defaults are the sizes of NAS-VQA."""

    name: Literal["stacked"] = "stacked"
    graph: Literal["rnn", "cnn"] = "rnn"
    edges: Literal["all", "one"] = "all"
    """``all`` puts an operation on every edge; ``one`` keeps one edge a node and stream in the rnn graph, two in the
    cnn graph."""
    cells: Count = 3
    """Number of cells in the stack."""
    nodes: int = Field(4, ge=1, le=50)
    """Number of searched nodes in a cell."""
    relation_size: Width | None = None
    """Width of the embedded geometry between two regions. Null, as in NAS-VQA: the image has no relational
    self-attention."""

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        if self.cells * self.nodes**2 > MOST:
            raise ValueError(
                f"cells is {self.cells} and nodes {self.nodes}: expected cells × nodes² to be {MOST:,} at most, since "
                "more edges take minutes to build"
            )
        return self

    def build(self, sizes: OperationSizes) -> "Stacked":
        """Returns the stack of cells."""
        return Stacked(self, sizes)

    def drawing(self, choices: Choices) -> CellGraph:
        """Returns the cell, folded as papers draw it."""
        first = 1 if self.graph == "rnn" else 2  # the position of the first searched node
        nodes = range(first, first + self.nodes)
        edges = [edge for stream in STREAMS for node in nodes for edge in self._edges(choices, stream, node, first)]
        before = ("0",) if self.graph == "rnn" else ("k-2", "k-1")
        note = "Both inputs of the first cell are the image's regions and the question's words."
        if self.edges == "all":
            note += " A node sums its edges and normalises the sum."
        elif self.graph == "cnn":
            note += " A node sums its two edges."
        return CellGraph(
            title=f"cell, × {self.cells}" if self.cells > 1 else "cell",
            streams=STREAMS,
            nodes=before + tuple(str(node) for node in range(1, self.nodes + 1)),
            edges=tuple(edges),
            inputs=(("cell k-2", 0), ("cell k-1", first - 1)),
            prepared="feed_forward",
            start="mean",
            result="{stream} out",
            after="feed_forward",
            note=note,
        )

    def _edges(self, choices: Choices, stream: str, node: int, first: int) -> list[Edge]:
        """Returns the edges that enter the node at a position."""
        name = f"{stream}_node{node - first + 1}"
        if self.edges == "all":
            chosen = [(source, choices[f"{name}_from{source}"]) for source in range(node)]
        elif self.graph == "rnn":
            chosen = [(choices[f"{name}_input"][0], choices[f"{name}_operation"])]
        else:
            sources = map(int, choices[f"{name}_inputs"].split(","))
            chosen = [(source, choices[f"{name}_operation{i}"]) for i, source in enumerate(sources, start=1)]
        return [
            Edge(stream, source, node, each, (OTHER[stream], source) if each == "guided_attention" else None)
            for source, each in chosen
        ]

    @classmethod
    def listings(cls) -> list[Listing]:
        """Returns both graphs in both forms."""
        return [
            Listing(f"stacked {graph}, edges {edges}", "NAS-VQA 2", cls(graph=graph, edges=edges))
            for graph in ("rnn", "cnn")
            for edges in ("all", "one")
        ]


def total(tensors: Iterable[Tensor]) -> Tensor:
    """Returns the sum of the tensors. Python's ``sum`` begins with 0, which costs one more pass over memory."""
    return reduce(torch.add, tensors)


class Pick(nn.Module):
    """A candidate of an input choice: passes on the states at two positions."""

    def __init__(self, lower: int, higher: int):
        super().__init__()
        self.lower = lower
        self.higher = higher

    def forward(self, states: tuple[State, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return *states[self.lower], *states[self.higher]  # flat, because a mixed layer weighs tensors


class Cell(nn.Module):
    """A cell: maps the outputs of the two cells before it to an output of the same shapes."""

    def __init__(self, settings: StackedSettings, sizes: OperationSizes):
        super().__init__()
        self.graph, self.edges = settings.graph, settings.edges

        def choose_operation(label: str) -> LayerChoice:
            candidates = operations_of(label.partition("_")[0], settings.relation_size)
            return LayerChoice({name: operation(sizes) for name, operation in candidates.items()}, label=label)

        self.before = nn.ModuleDict(
            {stream: nn.ModuleList([feed_forward(sizes), feed_forward(sizes)]) for stream in STREAMS}
        )
        self.operations = nn.ModuleDict()
        self.inputs = nn.ModuleDict()
        for node in range(1, settings.nodes + 1):
            sources = range(node if settings.graph == "rnn" else node + 1)
            for stream in STREAMS:
                name = f"{stream}_node{node}"
                if settings.edges == "all":
                    edges = [choose_operation(f"{name}_from{source}") for source in sources]
                    self.operations[name] = nn.ModuleList(edges)
                elif settings.graph == "cnn":
                    pairs = {f"{lower},{higher}": Pick(lower, higher) for lower, higher in combinations(sources, 2)}
                    self.inputs[name] = LayerChoice(pairs, label=f"{name}_inputs")
                    edges = [choose_operation(f"{name}_operation{edge}") for edge in (1, 2)]
                    self.operations[name] = nn.ModuleList(edges)
                else:
                    self.inputs[name] = InputChoice(node, n_chosen=1, label=f"{name}_input")
                    self.operations[name] = choose_operation(f"{name}_operation")
        self.nodes = settings.nodes
        self.norm = plain_norm(sizes.hidden)

    def forward(
        self, before_last: State, last: State, masks: tuple[Tensor, Tensor], relation: tuple[Tensor, ...] = ()
    ) -> State:
        """Computes all nodes of both streams.

        Args:
            before_last: Output of the cell before the last one; for the first two cells, the input of the stack.
            last: Output of the last cell; for the first cell, the input of the stack.
            masks: True where a region is real, ``(B, N)``, and where a word is real, ``(B, T)``.
            relation: The embedded geometry, ``(B, N, N, relation_size)``, where an operation looks at it.

        Returns:
            The mean of the searched nodes in each stream.
        """
        states = self.input_states(before_last, last)
        for node in range(1, self.nodes + 1):
            states.append((self.node(node, 0, states, masks, relation), self.node(node, 1, states, masks)))
        image, question = zip(*states[-self.nodes :], strict=True)
        return total(image) / self.nodes, total(question) / self.nodes

    def input_states(self, before_last: State, last: State) -> list[State]:
        """Returns the states with which the nodes begin: the two inputs, or their mean as node 0."""
        (image0, image1), (question0, question1) = (
            (of_before_last(before_last[i]), of_last(last[i]))
            for i, (of_before_last, of_last) in enumerate(self.before[stream].children() for stream in STREAMS)
        )
        if self.graph == "cnn":
            return [(image0, question0), (image1, question1)]
        return [((image0 + image1) / 2, (question0 + question1) / 2)]

    def node(
        self,
        node: int,
        stream: int,
        states: list[State],
        masks: tuple[Tensor, Tensor],
        relation: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """Returns the state of one stream (0 is the image, 1 the question) at a node."""
        name = f"{STREAMS[stream]}_node{node}"

        def edge(operation: nn.Module, state: State) -> Tensor:
            return operation(state[stream], masks[stream], state[1 - stream], masks[1 - stream], *relation)

        if self.edges == "all":
            return self.norm(total(map(edge, self.operations[name].children(), states)))
        if self.graph == "cnn":
            # A tuple, because the list still grows by later nodes, and would keep the autograd graph alive.
            picked = self.inputs[name](tuple(states))
            return total(map(edge, self.operations[name].children(), (picked[:2], picked[2:])))
        return edge(self.operations[name], self.inputs[name](states))


class Stacked(Backbone):
    """The backbone of NAS-VQA's second attempt: a stack of cells, then one feed-forward a stream."""

    head_norm = nn.LayerNorm

    def __init__(self, settings: StackedSettings, sizes: OperationSizes):
        super().__init__()
        self.cells = nn.ModuleList(Cell(settings, sizes) for _ in range(settings.cells))
        self.after = nn.ModuleDict({stream: feed_forward(sizes) for stream in STREAMS})
        if settings.relation_size is not None:
            self.relation = geometry_embedding(settings.relation_size)
        self.relational = any(isinstance(module, RelationalSelfAttention) for module in self.modules())

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps the features of both streams to features of the same shapes.

        It looks at the boxes only where an operation does.
        """
        relation = (embedded_geometry(self.relation, boxes, image_mask),) if self.relational else ()
        before_last = last = (image, question)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last, (image_mask, question_mask), relation)
        return self.after["image"](last[0]), self.after["question"](last[1])
