"""The searched question encoder: with any backbone, in both forms, with a sample a forward pass or a time step."""

from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture
from model_space.encoders.recurrent import Recurrent, RecurrentSettings, read_by_call
from model_space.errors import InputError
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.life import searched, trained_and_evaluated
from tests.helpers.paths import DIGITS, ROOT
from tests.helpers.searching import Killed, ignore, killed_at, short_search
from tests.helpers.supernets import STRATEGIES, loss_of, supernet_of, weights_at
from tests.helpers.tiny import space_of, tiny_batch, tiny_network, tiny_space
from trainer.callbacks.checkpoint import load_checkpoint
from trainer.callbacks.curve import read_curve
from trainer.search import search
from trainer.supernet.choices import (
    OneHot,
    architecture_parameter,
    architecture_parameters,
    at_sample,
    mixed_modules,
    sample,
    set_weighting,
    weighting,
)
from trainer.supernet.recurrent import read_mixed

SETTINGS = ROOT / "settings" / "recurrent.yml"

ENCODERS = [
    RecurrentSettings(edges=edges, nodes=3, resample=resample, input_dropout=0, hidden_dropout=0)
    for edges in ("all", "one")
    for resample in ("forward", "step")
]
FORMS = [ENCODERS[0], ENCODERS[2]]
BACKBONES = [StackedSettings(edges="one", cells=1, nodes=2), MCANSettings(layers=1)]


def form_and_resample(encoder: RecurrentSettings) -> str:
    return f"{encoder.edges}-{encoder.resample}"


def name(space) -> str:
    return space.name


@pytest.mark.parametrize("backbone", BACKBONES, ids=name)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("encoder", ENCODERS, ids=form_and_resample)
def test_supernet_at_a_sample_is_the_frozen_network(encoder, strategy, backbone):
    supernet = supernet_of(backbone, strategy, encoder=encoder)
    space = tiny_space(backbone, encoder)
    for seed in range(3):
        choices = space.random_choices(seed)
        frozen = Architecture(space=space, choices=choices).network().double()
        frozen.load_state_dict(weights_at(supernet, choices))
        batch = tiny_batch()
        supernet.zero_grad()
        with at_sample(supernet, choices):
            loss = loss_of(supernet, batch)
            loss.backward()
        frozen_loss = loss_of(frozen, batch)
        frozen_loss.backward()
        torch.testing.assert_close(loss, frozen_loss, rtol=1e-10, atol=0)
        of_encoder = dict(supernet.question_encoder.named_parameters())
        for weight, p in frozen.question_encoder.named_parameters():
            ours = of_encoder[weight].grad
            if p.grad is None:
                assert ours is None or not ours.any()
            else:
                torch.testing.assert_close(ours, p.grad, rtol=1e-8, atol=1e-9)


def plain_cell():
    """The cell alone in its plain form: dropout is sampled as before."""
    return patch("model_space.encoders.recurrent.by_hand", lambda x: False)


class Replay(nn.Module):
    """Stands for a softmax that draws at each call: gives the same draws to who asks for all time steps at once and to
    who asks for one after the other."""

    def __init__(self, draws: Tensor):
        super().__init__()
        self.draws, self.rows = draws, iter(draws)

    def forward(self, architecture_parameter: Tensor) -> Tensor:
        return self.draws if architecture_parameter.dim() == 2 else next(self.rows)


def sample_all(supernet, temperature: float = 0.7) -> None:
    for module in mixed_modules(supernet):
        if isinstance(weighting(module), OneHot):
            sample([weighting(module)], [architecture_parameter(module)], temperature)


def gradients(network) -> dict[str, Tensor]:
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize("tokens", [6, 1])
@pytest.mark.parametrize("strategy", ["snas", "darts", "gumbel_darts"])
@pytest.mark.parametrize("encoder", ENCODERS, ids=form_and_resample)
def test_the_sequence_by_hand_is_the_cell_edge_by_edge(encoder, strategy, tokens):
    """Every candidate of every edge under autograd, with the same dropout and the same draws."""
    encoder = encoder.model_copy(update={"input_dropout": 0.3, "hidden_dropout": 0.3})
    supernet = supernet_of(BACKBONES[0], strategy, encoder=encoder)
    for parameter in architecture_parameters(supernet).values():
        torch.nn.init.normal_(parameter)
    batch = tiny_batch(tokens=tokens)
    softmaxes = {module: weighting(module) for module in mixed_modules(supernet.question_encoder)}

    def step(seed):
        supernet.zero_grad()
        torch.manual_seed(seed)
        sample_all(supernet)
        for module, softmax in softmaxes.items():
            if not isinstance(softmax, OneHot) or softmax.each_call:
                set_weighting(module, Replay(softmax(architecture_parameter(module).expand(tokens, -1))))
        loss = loss_of(supernet, batch)
        loss.backward()
        for module, softmax in softmaxes.items():
            set_weighting(module, softmax)
        return loss, gradients(supernet)

    by_hand = [step(seed) for seed in range(4)]
    with plain_cell():
        plain = [step(seed) for seed in range(4)]
    assert len({loss.item() for loss, _ in by_hand}) == 4
    for (loss, of_hand), (plain_loss, of_plain) in zip(by_hand, plain, strict=True):
        torch.testing.assert_close(loss, plain_loss, rtol=1e-12, atol=0)
        torch.testing.assert_close(of_hand, of_plain, rtol=1e-9, atol=1e-9)
    for name, first in plain[0][1].items():
        if "encoder" in name and len(first) > 1:  # a sample may cut the question off, another does not
            assert any(of_plain[name].any() for _, of_plain in plain), name


@pytest.mark.parametrize("encoder", FORMS, ids=form_and_resample)
def test_a_frozen_cell_by_hand_is_the_cell_edge_by_edge(encoder):
    encoder = encoder.model_copy(update={"input_dropout": 0.3, "hidden_dropout": 0.3})
    space = tiny_space(BACKBONES[0], encoder)
    for seed in range(4):
        network = Architecture(space=space, choices=space.random_choices(seed)).network().double()
        batch = tiny_batch()

        def step(seed=seed, network=network, batch=batch):
            network.zero_grad()
            torch.manual_seed(seed)
            loss = loss_of(network, batch)
            loss.backward()
            return loss, gradients(network)

        by_hand = step()
        with plain_cell():
            torch.testing.assert_close(by_hand, step(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("encoder", ENCODERS, ids=form_and_resample)
def test_without_a_gradient_nothing_changes(encoder, strategy):
    supernet = supernet_of(BACKBONES[0], strategy, encoder=encoder)
    sample_all(supernet)
    tokens = torch.randint(20, (3, 6))
    torch.manual_seed(0)
    states = supernet.question_encoder(tokens)
    torch.manual_seed(0)
    with torch.no_grad():
        torch.testing.assert_close(supernet.question_encoder(tokens), states, rtol=0, atol=0)


@pytest.mark.parametrize("strategy", ["snas", "darts"])
@pytest.mark.parametrize("encoder", FORMS, ids=form_and_resample)
def test_two_half_batches_have_the_gradient_of_one(encoder, strategy):
    supernet = supernet_of(BACKBONES[0], strategy, encoder=encoder)
    sample_all(supernet)
    cell, words = supernet.question_encoder.recurrent, torch.randn(6, 4, 8, dtype=torch.float64)

    def accumulated(*parts):
        supernet.zero_grad()
        for part in parts:
            cell(part).square().sum().backward(retain_graph=True)
        return gradients(cell)

    torch.testing.assert_close(accumulated(words[:3], words[3:]), accumulated(words), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("encoder", FORMS, ids=form_and_resample)
def test_single_path_has_the_gradients_of_the_chosen_candidates_alone(encoder):
    one_hot = {}
    for strategy in ("snas", "single_path"):
        torch.manual_seed(1)
        supernet = supernet_of(BACKBONES[1], strategy, encoder=encoder)
        choices = tiny_space(BACKBONES[1], encoder).random_choices(3)
        with at_sample(supernet, choices) as samples:
            loss_of(supernet, tiny_batch()).backward()
        one_hot[strategy] = {label: sample.grad for label, sample in samples.items()}
    for label, gradient in one_hot["snas"].items():
        torch.testing.assert_close(one_hot["single_path"][label], gradient * samples[label].detach())
    assert any(gradient.count_nonzero() > 1 for gradient in one_hot["snas"].values())
    assert any(gradient.any() for gradient in one_hot["single_path"].values())


def test_a_node_that_hears_nothing_has_no_gradient():
    """None, not zero: its moments in the optimiser stay as they are. Node 0 is heard by nodes that are not silent."""
    space = tiny_space(BACKBONES[1], FORMS[0])
    choices = {label: "tanh" for label in space.random_choices(0)}
    choices |= {"recurrent_node1_from0": "none", "recurrent_node3_from1": "none"}
    cell = Architecture(space=space, choices=choices).network().question_encoder.recurrent
    cell(torch.rand(2, 4, 8)).pow(3).sum().backward()
    assert cell.weights[0].grad is None
    assert all(weight.grad.any() for weight in (cell.weight0, *cell.weights[1:]))
    choices |= {label: "none" for label in choices if label.endswith("from0")}
    cell = Architecture(space=space, choices=choices).network().question_encoder.recurrent
    cell(torch.rand(2, 4, 8)).pow(3).sum().backward()
    assert cell.weight0.grad is None and cell.weights[1].grad is not None


@pytest.mark.parametrize("encoder", FORMS, ids=form_and_resample)
def test_a_choice_can_be_read_by_calling_it(encoder):
    """Whatever a strategy has made of it."""
    supernet = supernet_of(BACKBONES[0], "darts", encoder=encoder)
    for parameter in architecture_parameters(supernet).values():
        torch.nn.init.normal_(parameter)
    tokens = torch.randint(20, (3, 6))
    states = supernet.question_encoder(tokens)
    supernet.question_encoder.recurrent.read_choice = read_by_call
    torch.testing.assert_close(supernet.question_encoder(tokens), states)


@pytest.mark.parametrize("encoder", ENCODERS, ids=form_and_resample)
def test_when_a_sample_is_drawn(encoder):
    """A time step: differs from word to word, and follows the distribution. A forward pass: one for all words."""
    supernet = supernet_of(BACKBONES[0], encoder=encoder)
    for parameter in architecture_parameters(supernet.question_encoder).values():
        torch.nn.init.normal_(parameter)
    sample_all(supernet, temperature=0.5)
    cell, time_steps, taken = supernet.question_encoder.recurrent, 1500, {}

    def read(choice, *arguments):
        weights, chosen = read_mixed(choice, *arguments)
        assert (chosen is None) == (encoder.resample == "step")
        taken[choice.label] = weights.detach().expand(time_steps, -1)
        return weights, chosen

    cell.read_choice = read
    with torch.no_grad():
        supernet.question_encoder(torch.randint(20, (1, time_steps)))
    parameters = architecture_parameters(supernet.question_encoder)
    assert taken.keys() == parameters.keys()
    for label, samples in taken.items():
        assert samples.count_nonzero() == time_steps
        torch.testing.assert_close(samples.sum(-1), torch.ones(time_steps, dtype=torch.float64))
        share = samples.mean(0)
        if encoder.resample == "step":
            torch.testing.assert_close(share, parameters[label].softmax(-1).detach(), rtol=0, atol=0.06)
        else:
            torch.testing.assert_close(share.max(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("backbone", BACKBONES, ids=name)
@pytest.mark.parametrize("encoder", FORMS, ids=form_and_resample)
def test_padded_words_change_nothing_and_an_item_is_the_same_alone(encoder, backbone):
    space = tiny_space(backbone, encoder)
    for seed in range(3):
        network = Architecture(space=space, choices=space.random_choices(seed)).network().double().eval()
        regions, region_mask, tokens, token_mask, boxes = tiny_batch()
        token_mask[1] = torch.arange(6) < 1  # one word
        answer = network(regions, region_mask, tokens, token_mask, boxes)
        other = network(regions, region_mask, tokens.where(token_mask, 7), token_mask, boxes)
        torch.testing.assert_close(other, answer)
        for row in range(3):
            t = token_mask[row].sum()
            words = tokens[row : row + 1, :t], token_mask[row : row + 1, :t]
            alone = network(regions[row : row + 1], region_mask[row : row + 1], *words, boxes[row : row + 1])
            torch.testing.assert_close(alone[0], answer[row])


@pytest.mark.parametrize("encoder", FORMS, ids=form_and_resample)
def test_nothing_everywhere_is_defined(encoder):
    space = tiny_space(BACKBONES[1], encoder)
    choices = {
        label: chosen if label.endswith("input") else "none" for label, chosen in space.random_choices(0).items()
    }
    network = Architecture(space=space, choices=choices).network().double()
    logits = network(*tiny_batch())
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_a_word_is_heard_later():
    """The state carries the first word to the last, and no word is heard before its time."""
    space = tiny_space(BACKBONES[1], FORMS[0])
    choices = {label: "tanh" for label in space.random_choices(0)}
    encoder = Architecture(space=space, choices=choices).network().double().question_encoder
    tokens = torch.tensor([[3, 4, 5, 6]])
    changes = (encoder(tokens) - encoder(torch.tensor([[3, 9, 5, 6]])))[0].abs().amax(-1)
    assert changes[0] == 0
    assert (changes[1:] > 1e-4).all()


@pytest.mark.parametrize("edges", ["all", "one"])
def test_dropout_is_locked(edges):
    """One mask a sequence on the words; one on the states, at all time steps and nodes."""
    dropout = {"input_dropout": 0.3, "hidden_dropout": 0.3}
    space = tiny_space(BACKBONES[1], RecurrentSettings(edges=edges, nodes=2, **dropout))
    choices = space.random_choices(0)
    choices |= {label: "identity" for label in choices if not label.endswith("input")}
    cell: Recurrent = Architecture(space=space, choices=choices).network().question_encoder.recurrent
    words = torch.rand(1, 9, 8, requires_grad=True)
    (cell(words) ** 2).sum().backward()
    heard = words.grad[0] != 0
    assert (heard == heard[0]).all() and 0 < heard[0].sum() < 8
    heard_states = [weight.grad.any(1) for weight in (cell.weight0[8:], *cell.weights) if weight.grad is not None]
    heard_states.append(cell.weight0.grad[8:].any(1))
    assert all((states == heard_states[0]).all() for states in heard_states)
    assert 0 < heard_states[0].sum() < 16
    cell.eval()
    torch.testing.assert_close(cell(words), cell(words), rtol=0, atol=0)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("encoder", ENCODERS, ids=form_and_resample)
def test_half_precision(encoder, strategy):
    """Sums are whole, products half: the states are near those of single precision, and so are the gradients."""
    supernet = supernet_of(BACKBONES[0], strategy, encoder=encoder).float()
    sample_all(supernet)
    tokens = torch.randint(20, (3, 6))

    def step(**autocast):
        supernet.zero_grad()
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, **autocast):
            states = supernet.question_encoder(tokens)
            (states * torch.linspace(-1, 1, 16)).sum().backward(retain_graph=True)
        return states.detach(), {name: p.clone() for name, p in gradients(supernet.question_encoder).items()}

    (whole, of_whole), (half, of_half) = step(enabled=False), step()
    assert whole.dtype == half.dtype == torch.float32
    assert not torch.equal(half, whole)
    torch.testing.assert_close(half, whole, rtol=0, atol=0.1)
    for weight, gradient in of_whole.items():
        assert of_half[weight].dtype == torch.float32
        assert (of_half[weight] - gradient).norm() <= 0.1 * gradient.norm() + 1e-3, weight


@pytest.mark.parametrize("edges", ["all", "one"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_killed_search_ends_as_if_it_had_not_been(tiny_data, tmp_path, strategy, edges):
    space = space_of(tiny_data, BACKBONES[1], encoder=RecurrentSettings(edges=edges, nodes=2, resample="step"))
    options = short_search(strategy=strategy, temperature=(2.0, 0.5), steps_per_epoch=2)
    whole = search(tiny_data, space, options, tmp_path / "whole", ignore)
    with pytest.raises(Killed):
        search(tiny_data, space, options, tmp_path / "killed", killed_at(2))
    torch.manual_seed(99)  # another process has drawn other numbers
    resumed = search(tiny_data, space, options, tmp_path / "killed", ignore)
    assert resumed == whole
    assert read_curve(tmp_path / "killed") == read_curve(tmp_path / "whole")
    states = [load_checkpoint(tmp_path / name / "last.ckpt")["state_dict"] for name in ("whole", "killed")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_form_is_a_parameter_of_a_trial(tiny_data, tiny_data_settings, tmp_path):
    shipped = Settings(
        data=tiny_data_settings,
        space=BACKBONES[0],
        encoder=FORMS[0],
        network=tiny_network(),
        search=short_search(epochs=1, steps_per_epoch=2),
    )
    for edges, label in (("all", "recurrent_node3_from1"), ("one", "recurrent_node3_activation")):
        trial = shipped.with_parameters({"encoder.edges": edges, "edges": "all"})
        assert (trial.encoder.edges, trial.space.edges) == (edges, "all")
        found = search(tiny_data, trial.space_for(tiny_data.sizes), trial.search, tmp_path / edges, ignore)
        assert label in found.choices
        found.save(tmp_path / "architecture.json")
        assert Architecture.load(tmp_path / "architecture.json") == found
    with pytest.raises(InputError, match=r"'encoder.edge' .*did you mean 'encoder.edges'"):
        shipped.with_parameters({"encoder.edge": "all"})


def test_the_shipped_settings_are_right():
    shipped = read_settings(SETTINGS)
    assert shipped.encoder.name == "recurrent"
    assert shipped.space.name == "stacked"


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("encoder: {name: recurrent, edges", "encoder: {name: recurrent, edge", ["encoder.edge'", "'edges'"]),
        ("encoder: {name: recurrent", "encoder: {name: recurent", ["encoder.name is 'recurent'", "lstm, recurrent"]),
        ("encoder: {name: recurrent, edges", "encoder: {edges", ["'encoder.name' is missing", "lstm, recurrent"]),
        ("encoder: {name: recurrent", "encoder: {name: lstm", ["unknown key 'encoder.edges'"]),
        ("resample: forward", "resample: word", ["encoder.resample is 'word'", "'forward' or 'step'"]),
    ],
)
def test_a_wrong_encoder_is_named(tmp_path, old, new, said):
    text = SETTINGS.read_text().replace("base: digits.yml", f"base: {DIGITS}")
    assert old in text
    file = tmp_path / "settings.yml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_settings(file)
    line = text[: text.index("\nencoder: {")].count("\n") + 2  # not the comment that speaks of it
    assert str(error.value).startswith(f"{file}, line {line}: ")
    assert all(words in str(error.value) for words in said) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "encoder, said",
    [
        ({"edges": "two"}, r"space\.encoder\.edges is 'two': .*'all' or 'one'"),
        ({"name": "gru"}, r"space\.encoder\.name is 'gru', expected one of lstm, recurrent"),
    ],
)
def test_an_architecture_of_a_wrong_encoder_is_refused(encoder, said):
    space = tiny_space(BACKBONES[1], FORMS[0])
    text = Architecture(space=space, choices=space.random_choices(0)).to_json()
    (key, value) = next(iter(encoder.items()))
    old = {"edges": '"edges": "all"', "name": '"name": "recurrent"'}[key]
    assert old in text
    with pytest.raises(InputError, match=said):
        Architecture.from_json(text.replace(old, f'"{key}": "{value}"'), "architecture.json")


@pytest.mark.parametrize("backbone", BACKBONES, ids=name)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_whole_life(tiny_data, tiny_data_settings, tmp_path, strategy, backbone):
    architecture = searched(tiny_data, backbone, strategy, tmp_path / "search", encoder=FORMS[1])
    assert architecture.space.encoder == FORMS[1]
    assert 0 <= trained_and_evaluated(tiny_data, tiny_data_settings, architecture, tmp_path) <= 100
