"""Networks, spaces and batches at tiny sizes."""

import torch

from model_space.architecture import Space
from model_space.encoders.lstm import LSTMSettings
from model_space.sizes import DataSizes, NetworkSettings
from trainer.data.splits import Data


def tiny_network(**changes) -> NetworkSettings:
    sizes = {"hidden": 16, "heads": 2, "embedding_dim": 8, "flat_mlp_size": 16, "flat_out_size": 32}
    return NetworkSettings(**(sizes | {"dropout": 0.0, "channel_dropout": 0.0} | changes))


def tiny_space(backbone, encoder=None, **changes) -> Space:
    """Returns a space at tiny sizes. ``changes`` are sizes of the network."""
    sizes = DataSizes(feature_size=12, vocabulary_size=20, answers=7)
    return Space(backbone=backbone, encoder=encoder or LSTMSettings(), network=tiny_network(**changes), data=sizes)


def space_of(data: Data, backbone, **changes) -> Space:
    """Returns a space at tiny sizes, for this data."""
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
