"""The question encoder ``recurrent``: a searched recurrent cell, the same at every word.

The cell of DARTS (Liu et al., 2018, arXiv 1806.09055, section 3.1.2), as the third attempt of NAS-VQA (Dang, 2020) has
it. Node 0 mixes the word x and the state h of the time step before by one gated product ``[c, p] = [x, h] W_0``:

    s_0 = h + sigmoid(c) (tanh(p) - h)

A further node i maps the state of a node j before it by a product of its own ``[c, p] = s_j W_i`` and an activation f:

    s_j + sigmoid(c) (f(p) - s_j)

The new state of the sequence is the mean of the nodes 1 to ``nodes``. Dropout is locked: one mask a sequence.

It exists in two forms:

``edges="all"``
    an activation is chosen on *every* edge j → i; a node sums its edges, and node 0 and every sum are normalised.
    Labels ``recurrent_node2_from0`` and so on. What NAS-VQA searches.
``edges="one"``
    a node chooses *one* predecessor and one activation; nothing is normalised.
    Labels ``recurrent_node2_input`` and ``recurrent_node2_activation``. What NAS-VQA trains.
"""

from typing import Literal

import torch
from nni.nas.nn.pytorch import InputChoice, LayerChoice
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from model_space.operations import ChannelDropout, Zero, plain_norm


class RecurrentSettings(BaseModel):
    """Parameters of the space; the defaults are the sizes of NAS-VQA's search."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["recurrent"] = "recurrent"
    edges: Literal["all", "one"] = "all"
    nodes: int = Field(5, ge=1)
    draw: Literal["forward", "step"] = "forward"
    """when SNAS draws a new sample: once a forward pass, so that what runs is a network that can be derived, with one
    cell for all words; or at every time step, as NAS-VQA does, so that cells are mixed within a question. DARTS does
    not draw, and NNI's GumbelDARTS draws at every time step in any case."""
    input_dropout: float = Field(0.1, ge=0, lt=1)
    """on the words: whole channels, the same at all time steps"""
    hidden_dropout: float = Field(0.1, ge=0, lt=1)
    """on what enters the products, words and states: whole channels, the same at all time steps and nodes"""


class Gated(nn.Module):
    """``s + gate (f(proposal) - s)``, all of shape ``(B, hidden)``."""

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.activation = activation

    def forward(self, state: Tensor, gate: Tensor, proposal: Tensor) -> Tensor:
        return state + gate * (self.activation(proposal) - state)


class Recurrent(nn.Module):
    """Runs the cell over a sequence: ``(B, T, word_size)`` to ``(B, T, hidden)``."""

    def __init__(self, settings: RecurrentSettings, word_size: int, hidden: int):
        super().__init__()
        self.edges = settings.edges

        def weight(rows: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(rows, 2 * hidden).uniform_(-(hidden**-0.5), hidden**-0.5))

        def each_step(choice: nn.Module) -> nn.Module:
            choice.draw_each_call = settings.draw == "step"
            return choice

        def choose_activation(label: str) -> nn.Module:
            candidates = {
                "none": Zero(),
                "tanh": Gated(nn.Tanh()),
                "relu": Gated(nn.ReLU()),
                "sigmoid": Gated(nn.Sigmoid()),
                "identity": Gated(nn.Identity()),
            }
            return each_step(LayerChoice(candidates, label=label))

        self.hidden = hidden
        self.weight0 = weight(word_size + hidden)
        self.weights = nn.ParameterList(weight(hidden) for _ in range(settings.nodes))
        self.mix = Gated(nn.Tanh())
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
        self.norm = plain_norm(hidden) if self.edges == "all" else nn.Identity()
        self.input_dropout = ChannelDropout(settings.input_dropout)
        self.hidden_dropout = ChannelDropout(settings.hidden_dropout)

    def forward(self, words: Tensor) -> Tensor:
        weight_word, weight_state = self.weight0.split((words.size(-1), self.hidden))
        # The words' part of the first product, of all time steps at once.
        products = self.hidden_dropout(self.input_dropout(words)) @ weight_word
        state = words.new_zeros(len(words), self.hidden)
        mask = self.hidden_dropout(torch.ones_like(state).unsqueeze(1)).squeeze(1)
        states = []
        for product in products.unbind(1):
            state = self.step(product + (state * mask) @ weight_state, state, mask)
            states.append(state)
        return torch.stack(states, 1)

    def step(self, product: Tensor, before: Tensor, mask: Tensor) -> Tensor:
        """One time step: the state ``(B, hidden)`` after the word.

        Args:
            product: the first product, ``(B, 2 hidden)``.
            before: the state before the word.
            mask: the dropout of states, ``(B, hidden)``.
        """
        gate, proposal = product.chunk(2, -1)
        states = [self.norm(self.mix(before, gate.sigmoid(), proposal))]
        for node in range(len(self.weights)):
            states.append(self.node(node, states, mask))
        return torch.stack(states[1:]).mean(0)

    def node(self, node: int, states: list[Tensor], mask: Tensor) -> Tensor:
        """The state of the node that follows ``states``."""
        # The product of an edge is shared by its candidates, and here one for all edges of the node.
        source = torch.stack(states) if self.edges == "all" else self.inputs[node](states)
        gate, proposal = ((source * mask) @ self.weights[node]).chunk(2, -1)
        gate = gate.sigmoid()
        if self.edges == "one":
            return self.activations[node](source, gate, proposal)
        edges = zip(self.activations[node], states, gate, proposal, strict=True)
        return self.norm(sum(activation(s, g, p) for activation, s, g, p in edges))
