"""What several tests share."""

import pytest
import torch
from tiny_vqa import write_split
from torch.nn import functional as torch_functional

from model_space import functional
from model_space.architecture import SpaceFields
from model_space.network import DataSizes, NetworkSettings
from model_space.question_encoder import LSTMSettings
from trainer.data.splits import Data, DataSettings, SplitSettings, load_data


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

    monkeypatch.setattr(functional, "dropped", places)
    monkeypatch.setattr(torch_functional, "dropout", dropout)


def tiny_network(**changes) -> NetworkSettings:
    sizes = {"hidden": 16, "heads": 2, "word_size": 8, "flat_inner": 16, "flat_size": 32}
    return NetworkSettings(**(sizes | {"dropout": 0.0, "channel_dropout": 0.0} | changes))


def tiny_space(backbone, encoder=None, **changes) -> SpaceFields:
    """The fields of a space at tiny sizes; ``changes`` are of the network."""
    sizes = DataSizes(feature_size=12, words=20, answers=7)
    return SpaceFields(
        backbone=backbone, encoder=encoder or LSTMSettings(), network=tiny_network(**changes), data=sizes
    )


def space_of(data: Data, backbone, **changes) -> SpaceFields:
    """The fields of a space at tiny sizes, for this data."""
    return tiny_space(backbone, **changes).model_copy(update={"data": data.sizes})


def tiny_batch(batch: int = 3, regions: int = 7, tokens: int = 6) -> list[torch.Tensor]:
    """Regions, their mask, tokens, their mask, boxes; in double precision. Only the first row is whole."""
    region_mask = torch.arange(regions) < torch.randint(1, regions + 1, (batch, 1))
    token_mask = torch.arange(tokens) < torch.randint(1, tokens + 1, (batch, 1))
    region_mask[0] = token_mask[0] = True
    features = torch.randn(batch, regions, 12, dtype=torch.float64) * region_mask[..., None]
    words = torch.randint(1, 20, (batch, tokens)) * token_mask
    corner, side = torch.rand(2, batch, regions, 2, dtype=torch.float64) * 100 + 1
    boxes = torch.cat([corner, corner + side], -1) * region_mask[..., None]
    return [features, region_mask, words, token_mask, boxes]


@pytest.fixture(scope="session")
def tiny_data_settings(tmp_path_factory) -> DataSettings:
    """Three splits of random questions about random images."""
    folder = tmp_path_factory.mktemp("data")
    splits = {
        split: SplitSettings(**write_split(folder, split, 12, questions, feature_size=12, seed=seed)._asdict())
        for seed, (split, questions) in enumerate({"train": 96, "val": 24, "test": 24}.items(), start=1)
    }
    return DataSettings(**splits, min_answer_count=1)


@pytest.fixture(scope="session")
def tiny_data(tiny_data_settings) -> Data:
    return load_data(tiny_data_settings)
