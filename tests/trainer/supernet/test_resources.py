"""What candidates cost, and the penalty of SNAS on it."""

import pytest
import torch
from torch import nn

from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import ignore, search_settings
from tests.helpers.tiny import space_of
from trainer.callbacks.curve import read_curve
from trainer.search import run, search
from trainer.strategies.snas import Snas
from trainer.supernet.choices import at_sample, derive, mixed_modules
from trainer.supernet.resources import MEASURES, candidate_costs

CELLS = StackedSettings(edges="one", cells=2, nodes=2)
CHAIN = EncoderDecoderSettings(encoder_blocks=1, decoder_blocks=2, relation_size=4)


@pytest.fixture
def batch(tiny_data):
    return tiny_data.train[range(8)]


@pytest.mark.parametrize("resource", MEASURES)
@pytest.mark.parametrize("form", [CELLS, CHAIN], ids=lambda form: form.name)
def test_costs_are_shares_of_the_most_expensive_architecture(form, resource, tiny_data, batch):
    supernet = Snas(architecture_lr=1e-3, temperature=(1.0, 1.0)).mutate_model(space_of(tiny_data, form).build())
    with at_sample(supernet, derive(supernet)):
        costs = candidate_costs(supernet, batch, resource)
    labels = list(dict.fromkeys(module.label for module in mixed_modules(supernet)))
    assert costs.shape[0] == len(labels) and (costs >= 0).all()
    assert costs.amax(-1).sum().item() == pytest.approx(1)
    for label, row in zip(labels, costs.tolist(), strict=True):
        if "input" in label:
            assert not any(row)
        elif form is CELLS and resource != "seconds":
            none, identity, feed_forward, self_attention, _ = row
            assert none == identity == 0 < self_attention < feed_forward  # the feed-forward is four times as wide


def gradients(data, **changes):
    """Returns the gradient of every architecture parameter after one step, and the module."""
    settings = search_settings("snas", epochs=1, steps_per_epoch=1, batch_size=16, seed=2, **changes)
    module = run(data, space_of(data, CELLS), settings, [], None)
    rows = nn.utils.rnn.pad_sequence([parameter.grad for parameter in module.arch_parameters()], batch_first=True)
    return rows, module


def test_the_penalty_has_the_gradient_of_the_samples_cost(tiny_data):
    plain, _ = gradients(tiny_data)
    penalised, module = gradients(tiny_data, resource_weight=0.5)
    # ∂(Σ_k s_k c_k)/∂α = s (c − Σ_k s_k c_k) for the soft sample s: its entries add up to zero. Where
    # all candidates cost the same there is none.
    added = (penalised - plain).double()
    assert added.abs().max() > 1e-6
    torch.testing.assert_close(added.sum(-1), torch.zeros(len(added), dtype=torch.float64), atol=1e-5, rtol=0)
    inputs = [row for row, cost in zip(added, module.costs, strict=True) if not cost.any()]
    assert inputs and all(row.abs().max() == 0 for row in inputs)
    twice, _ = gradients(tiny_data, resource_weight=1.0)
    torch.testing.assert_close((twice - plain).double(), 2 * added, atol=1e-5, rtol=1e-3)


def test_in_parts_the_penalty_is_the_same(tiny_data):
    whole, _ = gradients(tiny_data, resource_weight=3.0)
    parts, _ = gradients(tiny_data, resource_weight=3.0, accumulate=4)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("form", [CELLS, CHAIN], ids=lambda form: form.name)
def test_a_heavy_penalty_finds_what_costs_least(form, tiny_data, tmp_path):
    settings = search_settings("snas", epochs=4, batch_size=16, architecture_lr=0.3, resource_weight=100.0)
    found = search(tiny_data, space_of(tiny_data, form), settings, tmp_path, ignore)
    curve = read_curve(tmp_path)
    assert curve[-1]["expected_cost"] < curve[0]["expected_cost"] - 0.01 < 1
    if form is CELLS:
        assert "feed_forward" not in found.choices.values()  # the most expensive one
