"""The question encoder ``lstm``, as MCAN has it (Yu et al., 2019, arXiv 1906.10770, section 4.1)."""

from typing import Literal

import torch
from torch import Tensor, nn

from model_space.contracts import EncoderSettings
from model_space.functional.by_hand import without_autocast

BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether this CPU has an LSTM in bfloat16: oneDNN has one for AVX-512. Elsewhere it runs in single precision."""


class LSTMSettings(EncoderSettings):
    """An LSTM of one layer. Nothing in it is searched."""

    name: Literal["lstm"] = "lstm"

    def build(self, embedding_dim: int, hidden: int) -> nn.Module:
        """Returns the LSTM."""
        return LSTM(embedding_dim, hidden, batch_first=True)


class LSTM(nn.LSTM):
    """Maps embedded words ``(B, T, embedding_dim)`` to the states after them, ``(B, T, hidden)``."""

    def forward(self, words: Tensor) -> Tensor:  # type: ignore[override]  # without the last states
        if words.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not BFLOAT16:
            with without_autocast("cpu"):
                return super().forward(words)[0]
        return super().forward(words)[0]
