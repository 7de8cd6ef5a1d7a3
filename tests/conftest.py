"""What several tests share."""

import pytest
import torch
from torch.nn import functional as torch_functional

from tests.helpers.tiny_vqa import tiny_splits
from trainer.data.settings import DataSettings
from trainer.data.splits import Data, load_data


@pytest.fixture(autouse=True)
def _one_thread_one_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def same_places(monkeypatch):
    """Dropout at places that the size of the tensor fixes, in both forms."""

    def places(p: float, count: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(count)
        return (torch.rand(count, generator=generator) < p).nonzero().squeeze(1)

    def dropout(x: torch.Tensor, p: float, training: bool = True, inplace: bool = False) -> torch.Tensor:
        kept = torch.ones(x.numel(), dtype=x.dtype).index_fill_(0, places(p, x.numel()), 0).view(x.shape)
        return x * kept / (1 - p) if training else x

    for module in ("attention", "dropout"):
        monkeypatch.setattr(f"model_space.functional.{module}.dropped", places)
    monkeypatch.setattr(torch_functional, "dropout", dropout)


@pytest.fixture(scope="session")
def tiny_data_settings(tmp_path_factory) -> DataSettings:
    """Three splits of random questions about random images."""
    return tiny_splits(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def tiny_data(tiny_data_settings) -> Data:
    return load_data(tiny_data_settings)
