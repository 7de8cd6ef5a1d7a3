"""The question encoder ``lstm``, as MCAN has it (Yu et al., 2019, arXiv 1906.10770, section 4.1)."""

from typing import Literal

from torch import Tensor, nn

from model_space.contracts import EncoderSettings


class LSTMSettings(EncoderSettings):
    """An LSTM of one layer. Nothing in it is searched."""

    name: Literal["lstm"] = "lstm"

    def build(self, embedding_dim: int, hidden: int) -> nn.Module:
        """Returns the LSTM."""
        return LSTM(embedding_dim, hidden, batch_first=True)


class LSTM(nn.LSTM):
    """Maps embedded words ``(B, T, embedding_dim)`` to the states after them, ``(B, T, hidden)``."""

    def forward(self, words: Tensor) -> Tensor:  # type: ignore[override]  # without the last states
        return super().forward(words)[0]
