"""DCN against the figures of its authors' code."""

import pytest
import torch

from model_space.architecture import Architecture
from model_space.sizes import OperationSizes
from model_space.spaces.dcn import DCN, DCNSettings, DenseCoAttention
from tests.helpers import reference
from tests.helpers.life import trained_and_evaluated
from tests.helpers.supernets import assert_padding_and_order_do_not_matter
from tests.helpers.tiny import space_of, tiny_batch, tiny_space

# The authors' names → ours, in turn.
DCN_NAMES = [
    (r"dcn_layers", "layers"),
    (r"dense_coattn\.linears\.0", "attention.image_projection"),
    (r"dense_coattn\.linears\.1", "attention.question_projection"),
    (r"dense_coattn\.nones\.0", "attention.image_memory"),
    (r"dense_coattn\.nones\.1", "attention.question_memory"),
    (r"linears\.0\.0", "fuse_image"),
    (r"linears\.1\.0", "fuse_question"),
]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equals_the_reference(dtype, tolerance):
    arrays, config = reference.load("dense_coattention.npz")
    sizes = OperationSizes(config["dim"], config["heads"], feed_forward_size=1, dropout=0.0, channel_dropout=0.0)
    network = DCN(DCNSettings(layers=config["layers"], memory_slots=config["none_slots"]), sizes).to(dtype).eval()
    network.load_state_dict(reference.state(arrays, DCN_NAMES))
    image, question = (torch.from_numpy(arrays[stream]).to(dtype) for stream in ("image", "question"))
    masks = [torch.from_numpy(arrays[f"{stream}_valid"]) > 0 for stream in ("image", "question")]
    out = network(image, masks[0], question, masks[1], image.new_zeros(*image.shape[:2], 4))
    for ours, stream in zip(out, ("image", "question"), strict=True):
        theirs = torch.from_numpy(arrays[f"{stream}_out"])
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=tolerance)


def test_a_word_that_no_region_matches_attends_to_the_memory():
    attention = DenseCoAttention(8, heads=2, memory_slots=1).double()
    with torch.no_grad():
        for projection in (attention.image_projection, attention.question_projection):
            projection.weight.copy_(10 * torch.eye(8))
        attention.image_memory.fill_(1)
    image, question = -torch.ones(1, 3, 8).double(), torch.ones(1, 2, 8).double()
    _, attended_image = attention(image, torch.tensor([[True] * 3]), question, torch.tensor([[True] * 2]))
    torch.testing.assert_close(attended_image, torch.ones_like(question))


@pytest.mark.parametrize("slots", [0, 3])
def test_padding_changes_nothing_and_the_order_of_regions_does_not_matter(slots):
    assert_padding_and_order_do_not_matter(DCNSettings(layers=2, memory_slots=slots))


def test_one_region_and_one_token():
    network = Architecture(space=tiny_space(DCNSettings(layers=2)), choices={}).network().double()
    assert network(*tiny_batch(batch=1, regions=1, tokens=1)).isfinite().all()


def test_is_trained_and_evaluated(tiny_data, tiny_data_settings, tmp_path):
    architecture = Architecture(space=space_of(tiny_data, DCNSettings(layers=1)), choices={})
    assert 0 <= trained_and_evaluated(tiny_data, tiny_data_settings, architecture, tmp_path) <= 100
