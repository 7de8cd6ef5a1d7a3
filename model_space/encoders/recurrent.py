"""The question encoder ``recurrent``: a searched recurrent cell, the same at every word.

It is the cell of DARTS (Liu et al., 2018, arXiv 1806.09055, section 3.1.2) in the form of the third attempt of NAS-VQA
(Dang, 2020). Node 0 mixes the word x and the last state h of the sequence by one gated product ``[c, p] = [x, h] W_0``:

    s_0 = h + sigmoid(c) (tanh(p) - h)

A later node i maps the state of an earlier node j by a product of its own, ``[c, p] = s_j W_i``, and an activation f:

    s_j + sigmoid(c) (f(p) - s_j)

The new state of the sequence is the mean of the nodes 1 to ``nodes``. Dropout is locked: a sequence has one mask.

The cell has one of two forms:

``edges="all"``
    An activation is chosen on *every* edge j → i. A node sums its edges, and node 0 and every sum are normalised. The
    labels are ``recurrent_node2_from0`` and so on. NAS-VQA searches this form.
``edges="one"``
    A node chooses *one* predecessor and one activation, and nothing is normalised. The labels are
    ``recurrent_node2_input`` and ``recurrent_node2_activation``. NAS-VQA trains this form.

Both forms, frozen or searched, are computed by :mod:`model_space.encoders.recurrent_sequence`. It does not call the
choices edge by edge: each is read once a forward pass, as the weights of its candidates.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from nni.nas.nn.pytorch import InputChoice, LayerChoice
from pydantic import Field
from torch import Tensor, nn

from model_space.contracts import Choices, EncoderSettings, Listing
from model_space.encoders.recurrent_graph import replayed
from model_space.encoders.recurrent_plain import plain_sequence
from model_space.encoders.recurrent_sequence import ACTIVATIONS, Plan, sequence
from model_space.functional.by_hand import by_hand
from model_space.graph import CellGraph, Edge
from model_space.operations import ChannelDropout
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings


class RecurrentSettings(EncoderSettings):
    """Parameters of the space. The defaults are the sizes of NAS-VQA's search."""

    name: Literal["recurrent"] = "recurrent"
    edges: Literal["all", "one"] = "all"
    """``all`` puts an activation on every edge; ``one`` keeps one edge a node."""
    nodes: int = Field(5, ge=1, le=100)
    """Number of nodes after node 0."""
    resample: Literal["forward", "step"] = "forward"
    """When SNAS takes a new sample. ``forward``: once a forward pass, so that the network that runs can be derived,
    with one cell for all words. ``step``: at every time step, as NAS-VQA does, so that cells are mixed within a
    question. DARTS takes no samples, and NNI's GumbelDARTS takes one at every time step in any case."""
    input_dropout: float = Field(0.1, ge=0, lt=1)
    """Probability with which a channel of the words is dropped, at all time steps alike."""
    hidden_dropout: float = Field(0.1, ge=0, lt=1)
    """Probability with which a channel of what enters the products, words and states, is dropped, at all time steps
    and nodes alike."""

    def build(self, embedding_dim: int, hidden: int) -> "Recurrent":
        """Returns the cell over a sequence."""
        return Recurrent(self, embedding_dim, hidden)

    def drawing(self, choices: Choices) -> CellGraph:
        """Returns the cell, folded as papers draw it."""
        edges = []
        for node in range(1, self.nodes + 1):
            name = f"recurrent_node{node}"
            if self.edges == "one":
                (source,) = choices[f"{name}_input"]
                edges.append(Edge("question", source, node, choices[f"{name}_activation"]))
            else:
                edges += [Edge("question", source, node, choices[f"{name}_from{source}"]) for source in range(node)]
        return CellGraph(
            title="recurrent cell, at every word",
            streams=("question",),
            nodes=tuple(map(str, range(self.nodes + 1))),
            edges=tuple(edges),
            inputs=(("word t", 0), ("state t-1", 0)),
            prepared=None,
            start="gated product",
            result="state t",
            after=None,
            note="An edge is a gated product, named by its activation. State t is the feature of word t."
            + " A node sums its edges and normalises the sum." * (self.edges == "all"),
        )

    @classmethod
    def listings(cls) -> list[Listing]:
        """Returns both forms before the backbones of NAS-VQA's third attempt."""
        return [
            Listing(f"{name} + recurrent, {edges}", "NAS-VQA 3", backbone, cls(edges=edges))
            for edges in ("all", "one")
            for name, backbone in {"stacked": StackedSettings(edges=edges), "mcan": MCANSettings()}.items()
        ]


class Activation(nn.Module):
    """A candidate of an edge: picks the row that belongs to it."""

    def __init__(self, index: int):
        super().__init__()
        self.index = index

    def forward(self, rows: Tensor) -> Tensor:
        return rows[self.index]


Reading = tuple[Tensor, int | None]
"""The weights of the candidates of a choice, ``(K,)`` or a row for each time step, ``(T, K)``; and the index of the
chosen candidate, None where several are mixed or time steps differ."""


def read_by_call(choice: nn.Module, one_hots: Tensor, time_steps: int) -> Reading:
    """Reads a frozen choice: given a one-hot vector for each candidate, it returns that of the chosen one."""
    weights = choice(one_hots)
    chosen = weights.nonzero().flatten().tolist()
    return weights, chosen[0] if len(chosen) == 1 else None


class Recurrent(nn.Module):
    """Runs the cell over a sequence: ``(B, T, embedding_dim)`` to ``(B, T, hidden)``."""

    def __init__(self, settings: RecurrentSettings, embedding_dim: int, hidden: int):
        super().__init__()
        self.edges = settings.edges
        self.read_choice: Callable[[nn.Module, Tensor, int], Reading] = read_by_call
        """Reads the weights of a choice's candidates. A strategy, which mixes candidates, sets another function."""

        def weight(rows: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(rows, 2 * hidden).uniform_(-(hidden**-0.5), hidden**-0.5))

        def each_step(choice: Any) -> nn.Module:
            choice.resample_each_call = settings.resample == "step"
            return choice

        def choose_activation(label: str) -> nn.Module:
            candidates = {name: Activation(index) for index, name in enumerate(ACTIVATIONS)}
            return each_step(LayerChoice(candidates, label=label))

        self.hidden = hidden
        self.weight0 = weight(embedding_dim + hidden)
        self.weights = nn.ParameterList(weight(hidden) for _ in range(settings.nodes))
        self.activations = nn.ModuleList()
        self.inputs = nn.ModuleList()
        for node in range(1, settings.nodes + 1):
            name = f"recurrent_node{node}"
            if self.edges == "all":
                edges = [choose_activation(f"{name}_from{source}") for source in range(node)]
                self.activations.append(nn.ModuleList(edges))
            else:
                self.inputs.append(each_step(InputChoice(node, n_chosen=1, label=f"{name}_input")))
                self.activations.append(choose_activation(f"{name}_activation"))
        self.input_dropout = ChannelDropout(settings.input_dropout)
        self.hidden_dropout = ChannelDropout(settings.hidden_dropout)

    def forward(self, words: Tensor) -> Tensor:
        weight_word, weight_state = self.weight0.split((words.size(-1), self.hidden))
        # The words' part of the first product, of all time steps at once.
        products = self.hidden_dropout(self.input_dropout(words)) @ weight_word
        mask = self.hidden_dropout(self.weight0.new_ones(len(words), 1, self.hidden)).squeeze(1)
        plan, choices = self.read_choices(words.size(1))
        tensors = mask, products.transpose(0, 1), weight_state, *choices, *self.weights
        if not by_hand(words):
            return plain_sequence(plan, *tensors)
        if words.is_cuda and torch.is_grad_enabled():
            return replayed(self, plan, *tensors)
        return sequence(plan, *tensors)

    def read_choices(self, time_steps: int) -> tuple[Plan, list[Tensor]]:
        """Reads the choices at every time step.

        Returns:
            What is known of the choices. Then, for each node, the weights of the candidates of its edges,
            ``(T, edges, K)``; and in the form of one edge, for each node, the weights of its sources,
            ``(T, 1, sources)``.
        """

        def read(choices: Any, candidates: int) -> tuple[Tensor, list[int | None]]:
            # One-hot vectors on the CPU: what is chosen in a frozen network is known without waiting for a device.
            one_hots = torch.eye(candidates, dtype=self.weight0.dtype, device="cpu")
            weights, chosen = zip(*(self.read_choice(choice, one_hots, time_steps) for choice in choices), strict=True)
            return torch.stack(weights, -2).to(self.weight0.device).expand(time_steps, -1, -1), list(chosen)

        def known(chosen: Iterable[list[Any]], weights: Iterable[Tensor]) -> list[list[int]] | None:
            chosen = list(chosen)
            # A sample of a search is not told on a GPU, where one CUDA graph serves all of them.
            sampled = self.weight0.is_cuda and any(each.requires_grad for each in weights)
            return None if sampled or any(None in node for node in chosen) else chosen

        if self.edges == "all":
            mixtures, activations = zip(*(read(node, len(ACTIVATIONS)) for node in self.activations), strict=True)
            earlier = [list(range(node + 1)) for node in range(len(mixtures))]
            return Plan(normalised=True, activations=known(activations, mixtures), sources=earlier), [*mixtures]
        mixtures, activations = zip(*(read([node], len(ACTIVATIONS)) for node in self.activations), strict=True)
        picks, sources = zip(*(read([node], i + 1) for i, node in enumerate(self.inputs)), strict=True)
        return Plan(normalised=False, activations=known(activations, mixtures), sources=known(sources, picks)), [
            *mixtures,
            *picks,
        ]
