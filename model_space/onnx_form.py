"""A network in the ONNX form (https://onnx.ai), for any number of questions, regions and words.

Only the question encoder needs a form of its own: torch would write the loop over words out for one number of them. An
LSTM becomes ONNX's operator of that name, the searched recurrent cell the body of its operator `Scan`.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from model_space.encoders.recurrent import Recurrent
from model_space.encoders.recurrent_plain import plain_step
from model_space.network import Network

INPUTS = ("regions", "region_mask", "tokens", "token_mask", "boxes")
"""The inputs of the ONNX file: those of :meth:`model_space.network.Network.forward`, features as float32."""
OUTPUT = "logits"
OPSET = 18


class LSTM(nn.Module):
    """An LSTM of one layer: ``(B, T, embedding_dim)`` to ``(B, T, hidden)``."""

    input_weight: Tensor
    state_weight: Tensor
    bias: Tensor

    def __init__(self, lstm: nn.LSTM):
        super().__init__()

        def gates(weight: Any) -> Tensor:  # torch has input, forget, cell, output; ONNX input, output, forget, cell
            i, f, c, o = weight.detach().chunk(4)
            return torch.cat([i, o, f, c]).unsqueeze(0)

        self.hidden = lstm.hidden_size
        self.register_buffer("input_weight", gates(lstm.weight_ih_l0))
        self.register_buffer("state_weight", gates(lstm.weight_hh_l0))
        self.register_buffer("bias", torch.cat([gates(lstm.bias_ih_l0), gates(lstm.bias_hh_l0)], dim=1))

    def forward(self, words: Tensor) -> Tensor:
        inputs = words.transpose(0, 1), self.input_weight, self.state_weight, self.bias
        shape = words.size(1), 1, words.size(0), self.hidden
        states = torch.onnx.ops.symbolic(
            "LSTM", inputs, {"hidden_size": self.hidden}, dtype=words.dtype, shape=shape, version=OPSET
        )
        return states.squeeze(1).transpose(0, 1)


class ScanCell(nn.Module):
    """A frozen searched cell over a sequence, ``(B, T, embedding_dim)`` to ``(B, T, hidden)``, in its plain form."""

    def __init__(self, recurrent: Recurrent):
        super().__init__()
        self.weight0, self.weights, self.hidden = recurrent.weight0, recurrent.weights, recurrent.hidden
        self.plan, choices = recurrent.read_choices(1)
        nodes = len(recurrent.weights)
        self.mixtures = [mixture[0] for mixture in choices[:nodes]]
        self.picks = [pick[0, 0] for pick in choices[nodes:]]

    def forward(self, words: Tensor) -> Tensor:
        from torch._higher_order_ops.scan import scan

        weight_word, weight_state = self.weight0.split((words.size(-1), self.hidden))

        def step(state: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
            product = product + state @ weight_state
            after = plain_step(self.plan, state, product, None, self.mixtures, self.picks, [*self.weights])
            return after, after.clone()  # the two may not share memory

        products = (words @ weight_word).transpose(0, 1)
        _, states = scan(step, products.new_zeros(products.size(1), self.hidden), products)
        return states.transpose(0, 1)


def onnx_form(network: Network) -> Network:
    """Returns a copy of a network, on the CPU and in evaluation mode, that can be exported and no longer be run."""
    network = deepcopy(network).cpu().float().eval().requires_grad_(False)
    encoder = network.question_encoder
    sequence = encoder.get_submodule(encoder.name)
    if isinstance(sequence, nn.LSTM):
        encoder.add_module(encoder.name, LSTM(sequence))
    elif isinstance(sequence, Recurrent):
        encoder.add_module(encoder.name, ScanCell(sequence))
    return network
