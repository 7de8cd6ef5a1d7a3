"""On a GPU, where there is one: its ways of computing give what the plain form gives."""

import pytest
import torch
from torch.nn import functional

from benchmarks.plain import plain
from model_space.encoders.recurrent import RecurrentSettings
from model_space.operations import FeedForward, GuidedAttention, SelfAttention
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import search_settings
from tests.helpers.tiny import space_of, tiny_batch, tiny_space
from trainer.search import search
from trainer.strategies.snas import Snas
from trainer.supernet.choices import at_sample

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="compares what runs on a GPU, and torch finds none here"
)


def encoder(**changes) -> RecurrentSettings:
    return RecurrentSettings(nodes=3, input_dropout=0.0, hidden_dropout=0.0, **changes)


SPACES = {
    "stacked": (StackedSettings(cells=2, nodes=3), encoder()),
    "stacked, one edge": (StackedSettings(cells=2, nodes=3, edges="one", graph="cnn"), encoder(edges="one")),
    "encoder_decoder": (EncoderDecoderSettings(encoder_blocks=3, decoder_blocks=5, relation_size=8), None),
    "paired": (PairedSettings(layers=3, memory_slots=2), None),
}


def supernet_of(space) -> torch.nn.Module:
    return Snas(architecture_lr=1e-3, temperature=(1.0, 1.0)).mutate_model(space.build()).cuda()


def step_at(supernet, choices, batch, low: bool = False) -> tuple[torch.Tensor, dict, dict]:
    """The loss, the gradients of the weights and of the samples."""
    supernet.zero_grad()
    with at_sample(supernet, choices) as samples:
        with torch.autocast("cuda", torch.bfloat16, enabled=low):
            logits = supernet(*batch)
        target = torch.linspace(0, 1, logits.numel(), device="cuda").view_as(logits)
        loss = functional.binary_cross_entropy_with_logits(logits.float() if low else logits, target, reduction="sum")
        loss.backward()
    return loss, {n: p.grad for n, p in supernet.named_parameters()}, {n: s.grad for n, s in samples.items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_exact_step_has_the_gradients_of_the_plain_form(space, seed):
    space = tiny_space(*space)
    supernet = supernet_of(space).double()
    choices = space.random_choices(seed)
    batch = [part.cuda() for part in tiny_batch()]
    step_at(supernet, choices, batch)  # a CUDA graph replayed, and not only captured
    loss, weights, samples = step_at(supernet, choices, batch)
    with plain():
        plain_loss, plain_weights, plain_samples = step_at(supernet, choices, batch)
    torch.testing.assert_close(loss, plain_loss, rtol=1e-12, atol=0)
    for ours, theirs in ((weights, plain_weights), (samples, plain_samples)):
        for name, gradient in theirs.items():
            if ours[name] is None:
                assert gradient is None or not gradient.any()
            else:
                torch.testing.assert_close(ours[name], gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_in_single_precision_and_under_autocast_it_is_near(space):
    space = tiny_space(*space)
    supernet = supernet_of(space)
    choices = space.random_choices(1)
    batch = [part.cuda() for part in tiny_batch()]
    exact = step_at(supernet.double(), choices, batch)[2]
    supernet.float()
    batch = [part.float() if part.is_floating_point() else part for part in batch]
    for low, tolerance in ((False, 1e-2), (True, 0.1)):  # an LSTM is in tf32 at best
        for label, gradient in step_at(supernet, choices, batch, low)[2].items():
            scale = exact[label].abs().max() + 0.1
            torch.testing.assert_close((gradient / scale).double(), exact[label] / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("regions", "tokens"), [(37, 14), (100, 13), (3, 1)])
def test_operations_equal_their_plain_form(regions, tokens):
    def mask(n: int) -> torch.Tensor:
        return torch.arange(n, device="cuda") < torch.tensor([[n], [max(1, n - 5)], [1], [n]], device="cuda")

    x, y = (torch.randn(4, n, 64, device="cuda", requires_grad=True) for n in (regions, tokens))
    inputs = x, mask(regions), y, mask(tokens)
    # A bias of the keys has no gradient but for rounding.
    for operation in (
        SelfAttention(64, 8, 0.0, bias=False),
        GuidedAttention(64, 8, 0.0, bias=False),
        FeedForward(64, 96, 0.0),
    ):
        operation.cuda()

        def outcome(operation=operation) -> list[torch.Tensor | None]:
            output = operation(*inputs)
            weights = torch.linspace(-1, 1, output.numel(), device="cuda").view_as(output)
            wanted = (x, y, *operation.parameters())
            return [output, *torch.autograd.grad((output * weights).sum(), wanted, allow_unused=True)]

        ours = outcome()
        with plain():
            expected = outcome()
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_a_second_forward_pass_before_the_backward_pass_of_the_first():
    space = tiny_space(*SPACES["stacked"])
    network = supernet_of(space).question_encoder
    first, second = (torch.randint(1, 20, (3, 6), device="cuda") for _ in range(2))

    def gradient(*batches: torch.Tensor) -> torch.Tensor:
        network.zero_grad()
        with at_sample(network, space.random_choices(0)):
            sum(network(tokens).square().sum() for tokens in batches).backward()
        return network.embedding.weight.grad

    torch.testing.assert_close(gradient(first, second), gradient(first).clone() + gradient(second))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_search_learns(tiny_data, tmp_path, precision):
    space = space_of(tiny_data, StackedSettings(cells=1, nodes=2))
    space = space.model_copy(update={"encoder": encoder()})
    epochs = []
    settings = search_settings(epochs=4, batch_size=16, lr=0.01, precision=precision, tf32=True)
    search(tiny_data, space, settings, tmp_path, epochs.append)
    assert epochs[-1]["loss"] < epochs[0]["loss"]
