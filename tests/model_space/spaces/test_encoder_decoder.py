"""MMnasNet against mmnas's own figures, and the space ``encoder_decoder``."""

import re

import pytest
import torch

from model_space.architecture import Architecture
from model_space.operations import RelationalSelfAttention, relative_geometry
from model_space.published import mmnas
from model_space.published.checkpoints import MMNAS_NAMES
from model_space.sizes import NetworkSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from tests.helpers import reference
from tests.helpers.life import searched, trained_and_evaluated
from tests.helpers.reference import mmnas_like
from tests.helpers.searching import search_settings
from tests.helpers.supernets import (
    STRATEGIES,
    assert_equal_to_frozen_at_a_sample,
    assert_gradients_of_the_plain_form,
    assert_padding_and_order_do_not_matter,
    loss_of,
    supernet_of,
    weights_at,
)
from tests.helpers.tiny import space_of, tiny_batch, tiny_space
from trainer.search import search
from trainer.supernet.choices import architecture_parameter, at_sample, mixed_modules

FORM = EncoderDecoderSettings(encoder_blocks=3, decoder_blocks=4, relation_size=5)
FORMS = [FORM, EncoderDecoderSettings(encoder_blocks=1, decoder_blocks=3, cells=2, relation_size=5)]
WIDE = NetworkSettings(hidden=128, heads=2)  # heads of 64, as the published architectures have them


def of_cells(form: EncoderDecoderSettings) -> str:
    return f"cells{form.cells}"


def all_of(operation: str, form: EncoderDecoderSettings = FORM) -> dict[str, str]:
    """Choices with one operation in every decoder block."""
    choices = tiny_space(form).random_choices(0)
    return {label: operation if label.startswith("decoder") else chosen for label, chosen in choices.items()}


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equals_the_reference(dtype, tolerance):
    arrays, config = reference.load("mmnas.npz")
    network = mmnas_like(arrays, config).network().to(dtype).eval()
    network.load_state_dict(reference.state(arrays, MMNAS_NAMES))
    image, boxes = (torch.from_numpy(arrays[name]).to(dtype) for name in ("image", "box_xyxy"))
    question = torch.from_numpy(arrays["question"])
    answer = network(image, image.abs().sum(-1) > 0, question, question > 0, boxes)
    torch.testing.assert_close(answer.double(), torch.from_numpy(arrays["logit"]), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_geometry_equals_the_reference(dtype, tolerance):
    arrays, _ = reference.load("mmnas.npz")
    relation = relative_geometry(torch.from_numpy(arrays["box_xyxy"]).to(dtype))
    expected = torch.from_numpy(arrays["relation"])
    # mmnas gives a padded pair zeros; whether the file does or not, it takes no part.
    real = torch.from_numpy(arrays["image"]).abs().sum(-1) > 0
    pairs = real.unsqueeze(1) & real.unsqueeze(2)
    torch.testing.assert_close(relation[pairs].double(), expected[pairs], rtol=0, atol=tolerance)


def test_geometry_of_two_regions():
    boxes = torch.tensor([[[0.0, 0.0, 9.0, 19.0], [20.0, 0.0, 39.0, 19.0]]])
    relation = relative_geometry(boxes)
    first_to_second = torch.tensor([25 / 10, 1e-3, 10 / 20, 1.0]).log()
    second_to_first = torch.tensor([25 / 20, 1e-3, 20 / 10, 1.0]).log()
    torch.testing.assert_close(relation[0, 0, 1], first_to_second)
    torch.testing.assert_close(relation[0, 1, 0], second_to_first)
    torch.testing.assert_close(relation[0, 0, 0], torch.tensor([1e-3, 1e-3, 1.0, 1.0]).log())


def test_relational_self_attention_is_finite_where_nothing_is_real():
    operation = RelationalSelfAttention(hidden=16, heads=2, relation_size=5, dropout=0.0)
    x = torch.randn(2, 4, 16, requires_grad=True)
    mask = torch.tensor([[False] * 4, [True] * 4])
    out = operation(x, mask, x, mask, torch.randn(2, 4, 4, 5))
    out.sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in operation.parameters())


def test_the_geometry_matters_to_relational_self_attention_alone():
    batch = tiny_batch()
    moved = [*batch[:4], batch[4] * torch.rand(7, 1, dtype=torch.float64)]
    for operation, matters in (("relational_self_attention", True), ("self_attention", False)):
        network = Architecture(space=tiny_space(FORM), choices=all_of(operation)).network().double()
        assert torch.equal(network(*batch), network(*moved)) != matters


def test_decoder_blocks_see_the_last_output_of_the_encoder():
    space = tiny_space(FORM)
    network = Architecture(space=space, choices=all_of("guided_attention")).network().double()
    seen = []
    for block in network.backbone.decoder[0]:
        block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2]))
    last = []
    network.backbone.encoder[-1][-1].register_forward_hook(lambda module, inputs, output: last.append(output))
    network(*tiny_batch())
    assert len(seen) == FORM.decoder_blocks and all(given is last[0] for given in seen)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("form", FORMS, ids=of_cells)
def test_supernet_at_a_sample_is_the_frozen_network(form, strategy, seed):
    assert_equal_to_frozen_at_a_sample(form, strategy, seed)


@pytest.mark.parametrize("operation", ["self_attention", "relational_self_attention", "guided_attention"])
def test_supernet_at_one_operation_everywhere_is_the_frozen_network(operation):
    supernet, batch = supernet_of(FORM), tiny_batch()
    choices = all_of(operation)
    frozen = Architecture(space=tiny_space(FORM), choices=choices).network().double()
    frozen.load_state_dict(weights_at(supernet, choices))
    with at_sample(supernet, choices):
        torch.testing.assert_close(loss_of(supernet, batch), loss_of(frozen, batch), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("seed", "together"), enumerate([0, 1000, 2**20]))
@pytest.mark.parametrize("form", FORMS, ids=of_cells)
def test_exact_step_has_the_gradients_of_the_plain_form(form, together, seed, dropout, same_places, monkeypatch):
    assert_gradients_of_the_plain_form(form, together, seed, dropout, monkeypatch)


@pytest.mark.parametrize("form", FORMS, ids=of_cells)
def test_padding_changes_nothing_and_the_order_of_regions_does_not_matter(form):
    assert_padding_and_order_do_not_matter(form)


@pytest.mark.parametrize("content", [float("nan"), float("inf"), -1e9])
def test_a_padded_regions_box_may_hold_anything(content):
    network = Architecture(space=tiny_space(FORM), choices=all_of("relational_self_attention")).network().double()
    regions, region_mask, tokens, token_mask, boxes = tiny_batch()
    region_mask[0, -1] = False
    other = boxes.masked_fill(~region_mask[..., None], content)
    network(regions, region_mask, tokens, token_mask, boxes).sum().backward()
    gradients = [weight.grad.clone() for weight in network.parameters()]
    network.zero_grad()
    answer = network(regions, region_mask, tokens, token_mask, other)
    answer.sum().backward()
    torch.testing.assert_close(answer, network(regions, region_mask, tokens, token_mask, boxes))
    for weight, gradient in zip(network.parameters(), gradients, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


@pytest.mark.parametrize("batch, regions, tokens", [(1, 1, 1), (3, 1, 1), (1, 7, 6)])
def test_one_region_one_token_and_a_batch_of_one_work(batch, regions, tokens):
    for operation in ("self_attention", "relational_self_attention", "guided_attention", "feed_forward"):
        network = Architecture(space=tiny_space(FORM), choices=all_of(operation)).network().double()
        answer = network(*tiny_batch(batch, regions, tokens))
        assert answer.shape == (batch, 7) and answer.isfinite().all()


def test_cells_share_the_choices_and_not_the_weights():
    supernet = supernet_of(FORMS[1])
    modules = mixed_modules(supernet)
    assert len(modules) == 2 * len({module.label for module in modules})
    assert set(tiny_space(FORMS[1]).random_choices(0)) == {
        "encoder_block1",
        "decoder_block1",
        "decoder_block2",
        "decoder_block3",
    }
    first, second = supernet.backbone.encoder
    assert architecture_parameter(first[0]) is architecture_parameter(second[0])
    assert not torch.equal(
        first[0]["self_attention"].attention.query.weight, second[0]["self_attention"].attention.query.weight
    )


def test_mcan_is_a_point_of_the_space():
    """With MCAN's attention biases at zero, the two networks are one."""
    sizes = WIDE.model_copy(update={"flat_mlp_size": 16, "flat_out_size": 32, "embedding_dim": 8})
    space = tiny_space(EncoderDecoderSettings()).model_copy(update={"network": sizes})
    point = mmnas.published("mmnas_mcan", space)
    searched = point.network().double().eval()
    layers = point.space.backbone.encoder_blocks // 2
    fixed = space.model_copy(update={"backbone": MCANSettings(layers=layers)})
    mcan = Architecture(space=fixed, choices={}).network().double().eval()

    position = {
        "encoder": {"self_attention": 0, "feed_forward": 1},
        "decoder": {"self_attention": 0, "guided_attention": 1, "feed_forward": 2},
    }

    def ours(name: str) -> str:
        if not name.startswith("backbone."):
            return name
        _, chain, layer, unit, rest = name.split(".", 4)
        block = int(layer) * len(position[chain]) + position[chain][unit]
        return f"backbone.{chain}.0.{block}.{rest}"

    weights = mcan.state_dict()
    biases = [name for name in weights if re.search(r"attention\.(query|key|value|merge)\.bias", name)]
    for name in biases:
        weights[name].zero_()
    fit = searched.load_state_dict({ours(name): weight for name, weight in weights.items()}, strict=False)
    assert sorted(fit.missing_keys) == ["backbone.relation.0.bias", "backbone.relation.0.weight"]
    assert len(fit.unexpected_keys) == len(biases) == 4 * 3 * layers
    batch = tiny_batch()
    torch.testing.assert_close(searched(*batch), mcan(*batch), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strategy", ["snas", "darts", "gumbel_darts"])
def test_its_choices_are_learned(tiny_data, tmp_path, strategy):
    options = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 8, "lr": 1e-3, "architecture_share": 0.2}
    settings = search_settings(**options, strategy=strategy, architecture_lr=1e-1)
    reported = []
    search(tiny_data, space_of(tiny_data, FORM, dropout=0.1), settings, tmp_path, reported.append)
    assert [epoch["epoch"] for epoch in reported] == [1, 2]
    assert reported[0]["probabilities"] != reported[1]["probabilities"]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_whole_life(tiny_data, tiny_data_settings, tmp_path, strategy):
    architecture = searched(tiny_data, FORM, strategy, tmp_path / "search", dropout=0.1)
    assert 0 <= trained_and_evaluated(tiny_data, tiny_data_settings, architecture, tmp_path) <= 100
