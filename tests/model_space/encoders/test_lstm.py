"""The LSTM encoder in half precision, also on a CPU that has no such LSTM."""

import pytest
import torch

from model_space.encoders import lstm
from model_space.encoders.lstm import LSTMSettings


@pytest.mark.parametrize("grad", [False, True])
def test_a_cpu_without_an_lstm_in_bfloat16_computes_it_in_single_precision(monkeypatch, grad):
    monkeypatch.setattr(lstm, "BFLOAT16", False)
    encoder, words = LSTMSettings().build(8, 16), torch.randn(2, 3, 8)
    with torch.set_grad_enabled(grad):
        expected = encoder(words)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(encoder(words), expected)
            assert torch.is_autocast_enabled("cpu")
