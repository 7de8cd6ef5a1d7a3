"""The question encoder: embeds the words and runs a recurrent cell over them, an LSTM or a searched one."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class LSTMSettings(BaseModel):
    """An LSTM, as MCAN has it: nothing in it is searched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["lstm"] = "lstm"


ENCODERS = {"lstm": LSTMSettings}

EncoderSettings = Annotated[LSTMSettings, Field()]


class QuestionEncoder(nn.Module):
    """Tokens ``(B, T)`` to features ``(B, T, hidden)``."""

    def __init__(self, settings: EncoderSettings, words: int, word_size: int, hidden: int):
        super().__init__()
        self.embedding = nn.Embedding(words, word_size)
        self.lstm = nn.LSTM(word_size, hidden, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.lstm(self.embedding(tokens))[0]
