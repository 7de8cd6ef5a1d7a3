"""The searched question encoder: with any backbone, in both forms, with a sample a forward pass or a time step."""

from pathlib import Path

import pytest
import torch
from conftest import space_of, tiny_batch, tiny_network, tiny_space
from life import searched, trained_and_evaluated
from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedInput, DifferentiableMixedLayer
from test_search import Killed, ignore, killed_at, settings
from test_supernet import STRATEGIES, loss_of, supernet_of, weights_at

from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture, random_choices
from model_space.errors import InputError
from model_space.mcan import MCANSettings
from model_space.recurrent import Recurrent, RecurrentSettings
from model_space.stacked import StackedSettings
from trainer.callbacks import load_checkpoint, read_curve
from trainer.search import search
from trainer.strategies.snas import SampledInput, SampledLayer
from trainer.strategies.supernet import architecture_parameters, at_sample, draw, mixed_modules

SETTINGS = Path(__file__).parents[1] / "settings" / "recurrent.yml"

ENCODERS = [
    RecurrentSettings(edges=edges, nodes=3, draw=draw, input_dropout=0, hidden_dropout=0)
    for edges in ("all", "one")
    for draw in ("forward", "step")
]
FORMS = [ENCODERS[0], ENCODERS[2]]
BACKBONES = [StackedSettings(edges="one", cells=1, nodes=2), MCANSettings(layers=1)]


def form_and_draw(encoder: RecurrentSettings) -> str:
    return f"{encoder.edges}-{encoder.draw}"


def name(space) -> str:
    return space.name


@pytest.mark.parametrize("backbone", BACKBONES, ids=name)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("encoder", ENCODERS, ids=form_and_draw)
def test_supernet_at_a_sample_is_the_frozen_network(encoder, strategy, backbone):
    supernet = supernet_of(backbone, strategy, encoder=encoder)
    fields = tiny_space(backbone, encoder)
    for seed in range(3):
        choices = random_choices(fields, seed)
        frozen = Architecture(fields, choices).network().double()
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


@pytest.mark.parametrize("backbone", BACKBONES, ids=name)
@pytest.mark.parametrize("encoder", ENCODERS, ids=form_and_draw)
def test_exact_step_has_the_gradients_of_the_plain_form(encoder, backbone, monkeypatch):
    """Also where a layer is called again and again in one forward pass, each time with another sample."""
    supernet = supernet_of(backbone, encoder=encoder)
    batch = tiny_batch()

    def step(seed):
        supernet.zero_grad()
        torch.manual_seed(seed)
        for module in mixed_modules(supernet):
            draw(module._softmax, module._arch_alpha, temperature=0.7)
        loss = loss_of(supernet, batch)
        loss.backward()
        return loss, {name: p.grad for name, p in supernet.named_parameters()}

    exact = [step(seed) for seed in range(4)]
    monkeypatch.setattr(SampledLayer, "forward", DifferentiableMixedLayer.forward)
    monkeypatch.setattr(SampledInput, "forward", DifferentiableMixedInput.forward)
    plain = [step(seed) for seed in range(4)]

    assert len({loss.item() for loss, _ in exact}) == 4
    for (exact_loss, exact_gradients), (plain_loss, plain_gradients) in zip(exact, plain, strict=True):
        torch.testing.assert_close(exact_loss, plain_loss, rtol=1e-12, atol=0)
        assert any(g is not None and g.any() for n, g in plain_gradients.items() if n.endswith("_arch_alpha"))
        for weight, gradient in plain_gradients.items():
            gradient = torch.zeros(1, dtype=torch.float64) if gradient is None else gradient
            ours = exact_gradients[weight]
            ours = torch.zeros_like(gradient) if ours is None else ours
            torch.testing.assert_close(ours, gradient.expand_as(ours), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("encoder", ENCODERS, ids=form_and_draw)
def test_when_a_sample_is_drawn(encoder):
    """A time step: differs from word to word, and follows the distribution. A forward pass: one for all words."""
    supernet = supernet_of(BACKBONES[0], encoder=encoder)
    taken = {}
    for module in mixed_modules(supernet.question_encoder):
        torch.nn.init.normal_(module._arch_alpha)
        module.register_forward_hook(lambda m, *_: taken.setdefault(m.label, []).append(m._softmax.index))
    for module in mixed_modules(supernet):
        draw(module._softmax, module._arch_alpha, temperature=0.5)
    time_steps = 1500
    with torch.no_grad():
        supernet.question_encoder(torch.randint(20, (1, time_steps)))
    parameters = architecture_parameters(supernet.question_encoder)
    assert taken.keys() == parameters.keys()
    for label, indices in taken.items():
        assert len(indices) == time_steps
        counts = torch.bincount(torch.tensor(indices), minlength=len(parameters[label])) / time_steps
        if encoder.draw == "step":
            torch.testing.assert_close(counts, parameters[label].softmax(-1).detach().float(), rtol=0, atol=0.06)
        else:
            assert counts.max() == 1


@pytest.mark.parametrize("backbone", BACKBONES, ids=name)
@pytest.mark.parametrize("encoder", FORMS, ids=form_and_draw)
def test_padded_words_change_nothing_and_an_item_is_the_same_alone(encoder, backbone):
    fields = tiny_space(backbone, encoder)
    for seed in range(3):
        network = Architecture(fields, random_choices(fields, seed)).network().double().eval()
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


@pytest.mark.parametrize("encoder", FORMS, ids=form_and_draw)
def test_nothing_everywhere_is_defined(encoder):
    fields = tiny_space(BACKBONES[1], encoder)
    choices = {
        label: chosen if label.endswith("input") else "none" for label, chosen in random_choices(fields, 0).items()
    }
    network = Architecture(fields, choices).network().double()
    logits = network(*tiny_batch())
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_a_word_is_heard_later():
    """The state carries the first word to the last, and no word is heard before its time."""
    fields = tiny_space(BACKBONES[1], FORMS[0])
    choices = {label: "tanh" for label in random_choices(fields, 0)}
    encoder = Architecture(fields, choices).network().double().question_encoder
    tokens = torch.tensor([[3, 4, 5, 6]])
    changes = (encoder(tokens) - encoder(torch.tensor([[3, 9, 5, 6]])))[0].abs().amax(-1)
    assert changes[0] == 0
    assert (changes[1:] > 1e-4).all()


@pytest.mark.parametrize("edges", ["all", "one"])
def test_dropout_is_locked(edges):
    """One mask a sequence on the words; one on the states, at all time steps and nodes."""
    dropout = {"input_dropout": 0.5, "hidden_dropout": 0.5}
    fields = tiny_space(BACKBONES[1], RecurrentSettings(edges=edges, nodes=2, **dropout))
    choices = random_choices(fields, 0)
    choices |= {label: "identity" for label in choices if not label.endswith("input")}
    cell: Recurrent = Architecture(fields, choices).network().question_encoder.recurrent
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


@pytest.mark.parametrize("encoder", ENCODERS, ids=form_and_draw)
def test_half_precision(encoder):
    supernet = supernet_of(BACKBONES[0], encoder=encoder).float()
    for module in mixed_modules(supernet):
        draw(module._softmax, module._arch_alpha, temperature=1.0)
    regions, region_mask, tokens, token_mask, boxes = tiny_batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = supernet(regions.float(), region_mask, tokens, token_mask, boxes.float()).square().sum()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in supernet.parameters() if p.grad is not None)


@pytest.mark.parametrize("edges", ["all", "one"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_killed_search_ends_as_if_it_had_not_been(tiny_data, tmp_path, strategy, edges):
    fields = space_of(tiny_data, BACKBONES[1], encoder=RecurrentSettings(edges=edges, nodes=2, draw="step"))
    options = settings(strategy=strategy, temperature=(2.0, 0.5), steps_per_epoch=2)
    whole = search(tiny_data, fields, options, tmp_path / "whole", ignore)
    with pytest.raises(Killed):
        search(tiny_data, fields, options, tmp_path / "killed", killed_at(2))
    torch.manual_seed(99)  # another process has drawn other numbers
    resumed = search(tiny_data, fields, options, tmp_path / "killed", ignore)
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
        search=settings(epochs=1, steps_per_epoch=2),
    )
    for edges, label in (("all", "recurrent_node3_from1"), ("one", "recurrent_node3_activation")):
        trial = shipped.with_parameters({"encoder.edges": edges, "edges": "all"})
        assert (trial.encoder.edges, trial.space.edges) == (edges, "all")
        found = search(tiny_data, trial.fields(tiny_data.sizes), trial.search, tmp_path / edges, ignore)
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
        ("draw: forward", "draw: word", ["encoder.draw is 'word'", "'forward' or 'step'"]),
    ],
)
def test_a_wrong_encoder_is_named(tmp_path, old, new, said):
    text = SETTINGS.read_text()
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
    [({"edges": "two"}, r"space\.encoder\.edges: .*'all' or 'one'"), ({"name": "gru"}, r"space\.encoder: .*'gru'")],
)
def test_an_architecture_of_a_wrong_encoder_is_refused(encoder, said):
    fields = tiny_space(BACKBONES[1], FORMS[0])
    text = Architecture(fields, random_choices(fields, 0)).to_json()
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
