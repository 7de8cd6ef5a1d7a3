"""MCAN against mcan-vqa's own figures."""

import pytest
import torch

from model_space.architecture import Architecture
from model_space.published.checkpoints import MCAN_NAMES
from model_space.spaces.mcan import MCANSettings
from tests.helpers import reference
from tests.helpers.reference import mcan_like
from tests.helpers.tiny import tiny_batch, tiny_space


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equals_the_reference(dtype, tolerance):
    arrays, config = reference.load("mcan.npz")
    network = mcan_like(arrays, config).network().to(dtype).eval()
    network.load_state_dict(reference.state(arrays, MCAN_NAMES))
    image, question = torch.from_numpy(arrays["image"]).to(dtype), torch.from_numpy(arrays["question"])
    boxes = image.new_zeros(*image.shape[:2], 4)
    answer = network(image, image.abs().sum(-1) > 0, question, question > 0, boxes).sigmoid()
    torch.testing.assert_close(answer.double(), torch.from_numpy(arrays["probability"]), rtol=0, atol=tolerance)


def test_stacking_guides_each_layer_by_the_question_of_its_depth():
    """Encoder-decoder and stacking share their weights; they agree at one layer and differ at two."""
    batch = tiny_batch()
    for layers, equal in ((1, True), (2, False)):
        networks = [
            Architecture(space=tiny_space(MCANSettings(form=form, layers=layers)), choices={}).network().double().eval()
            for form in ("encoder_decoder", "stacking")
        ]
        networks[1].load_state_dict(networks[0].state_dict())
        answers = [network(*batch) for network in networks]
        assert torch.allclose(*answers) == equal
