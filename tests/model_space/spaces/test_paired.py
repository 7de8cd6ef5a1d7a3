"""The space of pairs: MCAN is a point of it, and it lives through search, file, training and evaluation."""

import pytest
import torch

from model_space.architecture import Architecture
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.paired import PairedSettings
from tests.helpers.life import searched, trained_and_evaluated
from tests.helpers.tiny import tiny_batch, tiny_space
from trainer.strategies import STRATEGIES


def test_every_layer_chooses_among_all_pairs():
    every = tiny_space(PairedSettings(layers=2)).candidates()
    assert list(every) == ["layer1", "layer2"]
    pairs = "SA-SA ID-SA SA-ID ID-SGA SGA-ID SA-SGA SGA-SA SGA-SGA ID-ID CoA"
    assert sorted(every["layer2"]) == sorted(pairs.split())


def test_mcan_is_a_point_of_the_space():
    """The question encoded first, then the image decoded: with MCAN's weights the same answers."""
    depth = 2
    mcan = Architecture(space=tiny_space(MCANSettings(layers=depth)), choices={}).network().double().eval()
    choices = {f"layer{i}": "SA-ID" if i <= depth else "ID-SGA" for i in range(1, 2 * depth + 1)}
    paired = Architecture(space=tiny_space(PairedSettings(layers=2 * depth)), choices=choices).network().double().eval()
    weights = {}
    for name, weight in mcan.state_dict().items():
        for i in range(depth):
            name = name.replace(f"backbone.encoder.{i}.", f"backbone.layers.{i}.question.")
            name = name.replace(f"backbone.decoder.{i}.", f"backbone.layers.{i + depth}.image.")
        weights[name] = weight
    paired.load_state_dict(weights)
    batch = tiny_batch()
    torch.testing.assert_close(paired(*batch), mcan(*batch), rtol=0, atol=1e-12)


def test_the_streams_of_a_pair_see_the_inputs_of_the_layer():
    """SGA-SGA does the same to both streams: exchanged inputs and weights give exchanged outputs."""
    network = (
        Architecture(space=tiny_space(PairedSettings(layers=1)), choices={"layer1": "SGA-SGA"})
        .network()
        .double()
        .eval()
    )
    pair = network.backbone.layers[0]
    x, y = torch.randn(2, 3, 5, 16, dtype=torch.float64)
    mask = torch.ones(3, 5, dtype=torch.bool)
    image, question = pair(x, mask, y, mask)
    pair.image, pair.question = pair.question, pair.image
    again_question, again_image = pair(y, mask, x, mask)
    torch.testing.assert_close((image, question), (again_image, again_question))


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_whole_life(tiny_data, tiny_data_settings, tmp_path, strategy):
    architecture = searched(tiny_data, PairedSettings(layers=2), strategy, tmp_path / "search")
    assert 0 <= trained_and_evaluated(tiny_data, tiny_data_settings, architecture, tmp_path) <= 100
