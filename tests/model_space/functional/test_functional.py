"""What is computed by hand on a CPU equals torch's operations one after the other, with dropout at the same places."""

import math
import platform
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.profiler import profile

from benchmarks import plain
from model_space.functional import products
from model_space.functional.attention import attention, plain_attention
from model_space.functional.dropout import channel_dropout, dropout_sampled_ahead, dropped
from model_space.operations import MLP, FeedForward, GuidedAttention, Linear, SelfAttention, StdLayerNorm


def features(n: int, hidden: int = 24) -> torch.Tensor:
    return torch.randn(2, n, hidden, dtype=torch.float64, requires_grad=True)


def mask(n: int, real: int) -> torch.Tensor:
    return torch.arange(n).expand(2, n) < torch.tensor([[n], [real]])


def outcome(operation: nn.Module, *inputs) -> list[torch.Tensor]:
    """The output, and the gradients of all that went in."""
    output = operation(*inputs)
    wanted = [x for x in (*inputs, *operation.parameters()) if x.requires_grad]
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return [output, *torch.autograd.grad((output * weights).sum(), wanted, allow_unused=True)]


# 20 keys or more: softmax as it is; fewer than 16: padded within.
@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize(("n", "m"), [(20, 7), (7, 20), (3, 1), (1, 16)])
def test_operations_equal_their_plain_form(n, m, p, same_places):
    x, y, x_mask, y_mask = features(n), features(m), mask(n, max(1, n - 2)), mask(m, max(1, m - 3))
    for operation in (
        SelfAttention(24, 3, p),
        GuidedAttention(24, 3, p, norm=StdLayerNorm),
        GuidedAttention(24, 3, p, bias=False),
        FeedForward(24, 40, p, norm=StdLayerNorm),
    ):
        operation.double()
        ours = outcome(operation, x, x_mask, y, y_mask)
        with torch.no_grad():
            torch.testing.assert_close(operation(x, x_mask, y, y_mask), ours[0], rtol=0, atol=0)
        with plain.plain():
            expected = outcome(operation, x, x_mask, y, y_mask)
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or platform.machine() not in ("x86_64", "AMD64"),
    reason="compares products by oneDNN with torch's own, and here torch has no oneDNN, or the CPU is no x86",
)
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_products_by_onednn_equal_those_of_torch(p, same_places, monkeypatch):
    x, y, x_mask, y_mask = features(20).float(), features(7).float(), mask(20, 18), mask(7, 4)
    for operation in (
        SelfAttention(24, 3, p),
        GuidedAttention(24, 3, p, bias=False),
        FeedForward(24, 40, p),
        MLP(24, 40, 5, p),
    ):
        x_and_more = (x,) if isinstance(operation, MLP) else (x, x_mask, y, y_mask)
        monkeypatch.setattr(products, "ONEDNN_FROM", 0)
        with profile() as profiled:
            ours = outcome(operation, *x_and_more)
        names = {event.name for event in profiled.events()}
        assert "mkldnn::_linear_pointwise" in names and not names & {"aten::mm", "aten::addmm"}
        monkeypatch.setattr(products, "ONEDNN_FROM", math.inf)
        torch.testing.assert_close(ours, outcome(operation, *x_and_more), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_linear_layer_is_that_of_torch(dtype):
    layer = Linear(300, 200).to(dtype)
    x = torch.randn(3, 20, 300, dtype=dtype, requires_grad=True)  # large enough for oneDNN in float32
    expected = nn.Linear(300, 200).to(dtype)
    expected.load_state_dict(layer.state_dict())
    torch.testing.assert_close(outcome(layer, x), outcome(expected, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("m", [5, 18])
def test_a_bias_of_the_scores_has_its_gradient(m, same_places):
    layers = [nn.Linear(24, 24).double() for _ in range(4)]
    x, bias, real = features(m), torch.randn(2, 3, m, m, dtype=torch.float64, requires_grad=True), mask(m, m - 1)
    ours = attention(x, None, real, bias, layers, 3, 0.3)
    expected = plain_attention(x, None, real, bias, layers, 3, 0.3)
    torch.testing.assert_close(ours, expected)
    weights = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad(z, (x, bias), weights) for z in (ours, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_gradients_are_those_of_finite_differences():
    x, y = features(3), features(4)
    attention, feed_forward = GuidedAttention(24, 3, 0.0).double(), FeedForward(24, 8, 0.0, norm=StdLayerNorm).double()
    assert gradcheck(lambda x, y: attention(x, mask(3, 2), y, mask(4, 3)), (x, y))
    assert gradcheck(feed_forward, (x,))


def test_a_mask_that_is_changed_in_place_hides_what_it_masks_then():
    operation, x, real = SelfAttention(24, 3, 0.0).double(), features(5), mask(5, 5).clone()
    whole = operation(x, real)
    real[:, 3:] = False
    torch.testing.assert_close(operation(x, real)[:, :3], operation(x[:, :3], real[:, :3]))
    assert not torch.allclose(operation(x, real), whole)


def test_std_layer_norm_of_a_constant_row_is_its_bias():
    norm = StdLayerNorm(8)
    norm.bias.data.uniform_()
    x = torch.full((2, 8), 3.0, requires_grad=True)
    y = norm(x)
    torch.testing.assert_close(y, norm.bias.expand(2, 8))
    y.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("ahead", [nullcontext, dropout_sampled_ahead])
@pytest.mark.parametrize("p", [0.01, 0.1, 0.7])
def test_dropped_places_are_independent_and_as_many_as_they_should_be(p, ahead):
    counts = 90_000, 1, 30_000, 200_000, 3
    with ahead():
        parts = [dropped(p, count) for count in counts]
    for places, count in zip(parts, counts, strict=True):
        is_dropped = torch.zeros(count, dtype=torch.bool)
        is_dropped[places] = True
        assert len(places) == is_dropped.sum()
        assert torch.equal(places, places.sort().values)
        if count < 1000:
            continue
        spread = (count * p * (1 - p)) ** 0.5
        assert abs(len(places) - count * p) < 5 * spread
        halves = is_dropped.view(2, -1).sum(1)  # nowhere more than elsewhere
        assert abs(halves[0] - halves[1]) < 5 * spread
        neighbours = (is_dropped[1:] & is_dropped[:-1]).sum()  # whether the next is dropped does not depend on this one
        assert abs(neighbours - count * p**2) < 6 * (count * p**2) ** 0.5


@pytest.mark.parametrize("ahead", [nullcontext, dropout_sampled_ahead])
def test_the_smallest_tensor_is_dropped_as_often_as_any(ahead):
    with ahead():
        count = sum(len(dropped(0.3, 1)) for _ in range(3000))
    assert abs(count / 3000 - 0.3) < 0.05


def test_what_is_sampled_ahead_depends_on_the_seed_alone():
    def places() -> list[torch.Tensor]:
        torch.manual_seed(5)
        with dropout_sampled_ahead():
            return [dropped(0.2, count) for count in (70_000, 10, 70_000)]

    first, second = places(), places()
    assert all(map(torch.equal, first, second))
    assert not torch.equal(first[0], first[2])


def test_channel_dropout_is_one_mask_for_all_positions():
    dropped = channel_dropout(torch.ones(40, 9, 16), 0.25)
    assert (dropped == dropped[:, :1]).all()
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(4 / 3).item()}
    assert 0.6 < (dropped > 0).float().mean() < 0.9


def test_under_autocast_the_operations_are_near():
    operation = SelfAttention(24, 3, 0.0)
    x = torch.randn(2, 5, 24)
    exact = operation(x, mask(5, 3))
    with torch.autocast("cpu", torch.bfloat16):
        near = operation(x, mask(5, 3))
    torch.testing.assert_close(near.float(), exact, rtol=0.05, atol=0.05)
    assert not near.equal(exact)
