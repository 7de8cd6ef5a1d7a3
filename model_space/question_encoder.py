"""The question encoder: embeds the words and runs a recurrent network over them, an LSTM or a searched cell."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from model_space.encoders.recurrent import Recurrent, RecurrentSettings


class LSTMSettings(BaseModel):
    """An LSTM, as MCAN has it: nothing in it is searched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["lstm"] = "lstm"


ENCODERS = {"lstm": LSTMSettings, "recurrent": RecurrentSettings}
"""name → parameters; the name is a value of their field `name`"""

EncoderSettings = Annotated[LSTMSettings | RecurrentSettings, Field(discriminator="name")]


class QuestionEncoder(nn.Module):
    """Tokens ``(B, T)`` to features ``(B, T, hidden)``."""

    def __init__(self, settings: EncoderSettings, words: int, embedding_dim: int, hidden: int):
        super().__init__()
        self.name = settings.name
        self.embedding = nn.Embedding(words, embedding_dim)
        if self.name == "lstm":
            self.lstm = nn.LSTM(embedding_dim, hidden, batch_first=True)
        else:
            self.recurrent = Recurrent(settings, embedding_dim, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        words = self.embedding(tokens)
        return self.lstm(words)[0] if self.name == "lstm" else self.recurrent(words)
