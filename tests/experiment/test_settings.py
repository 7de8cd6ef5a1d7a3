"""Settings: what is wrong is said in one line, with file, line, key, value and the nearest known key."""

import typing
from collections.abc import Iterator

import annotated_types
import pytest
from pydantic import BaseModel, ValidationError

from experiment.manager.configuration import read_configuration
from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture
from model_space.errors import InputError
from tests.helpers.paths import STACKED
from trainer.strategies import STRATEGIES
from trainer.strategies.snas import SnasSettings


def test_the_shipped_settings_are_right():
    settings = read_settings(STACKED)
    assert settings.space.name == "stacked"
    assert settings.search.strategy == "snas"
    assert settings.network.hidden % settings.network.heads == 0


def test_the_defaults_of_the_search_are_the_sources():
    """NAS-VQA: Adam 1e-4 for the weights, 3e-4 for the architecture, temperature 1."""
    settings = SnasSettings()
    assert (settings.lr, settings.architecture_lr, settings.temperature) == (1e-4, 3e-4, (1.0, 1.0))


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("strategy: snas", "stratgy: snas", ["search.stratgy", "did you mean 'strategy'"]),
        (
            "strategy: snas",
            "strategy: enas",
            [
                "search.strategy is 'enas'",
                f"expected one of {', '.join(STRATEGIES)}",
            ],
        ),
        ("edges: one", "edge: one", ["space.edge", "did you mean 'edges'"]),
        ("name: stacked", "name: stackd", ["space.name is 'stackd'", "mcan, paired, stacked"]),
        ("hidden: ", "hidden: -", ["network.hidden", "greater than or equal to 1"]),
        ("heads: ", "heads: 7", ["heads", "divide hidden"]),
        ("\ntrain:", "\ntrian:", ["unknown key 'trian'", "did you mean 'train'"]),
        ("strategy: snas ", "temperature: [1.0, 2.0] #", ["temperature is [1.0, 2.0]", "start >= end > 0"]),
        (
            "  strategy: snas ",
            "  strategy: darts\n  temperature: [1.0, 1.0] #",
            ["unknown key 'search.temperature': 'darts' has none, it is a key of gumbel_darts, single_path, snas"],
        ),
        (
            "  max_tokens:",
            "  val: {questions: a.json, anotations: b.json, features: c}\n  max_tokens:",
            ["data.val.anotations", "did you mean 'annotations'"],
        ),
        ("dropout: 0.0", "dropout: 1.5", ["network.dropout is 1.5", "must be less than 1"]),
        (
            "hidden: ",
            "hidden: '90000000' # ",
            ["network.hidden is '90000000'", "a larger number is taken for a mistyped"],
        ),
        ("lr: 0.001", "lr: .inf", ["lr is inf", "finite number"]),
        ("  epochs: ", "  epochs: 1000000", ["epochs is 1000000", "less than or equal to 100000"]),
        ("nodes: ", "nodes: 1000000", ["space.nodes is 1000000", "less than or equal to 50; a larger"]),
        (
            "cells: 1, nodes: 3",
            "cells: 99, nodes: 11",
            ["cells is 99 and nodes 11", "expected cells × nodes² to be 10,000 at most"],
        ),
        ("mix: quick", "mix: slow", ["data.digits.mix is 'slow'", "'quick', 'facts' or 'hard'"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, said):
    text = STACKED.read_text()
    assert old in text
    file = tmp_path / "settings.yml"
    changed = text.replace(old, new, 1)
    file.write_text(changed)
    with pytest.raises(InputError) as error:
        read_settings(file)
    message = str(error.value)
    assert "\n" not in message
    for words in said:
        assert words in message
    line = changed[: changed.index(new.strip("\n"))].count("\n") + 1
    assert message.startswith(f"{file}, line {line}:") or "temperature" in message or "heads" in message


def unbounded(annotation: object, metadata: list, name: str) -> Iterator[str]:
    """The numbers of a type, or of the sections in it, that may be as large as one likes."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for key, field in annotation.model_fields.items():
            yield from unbounded(field.annotation, field.metadata, f"{annotation.__name__}.{key}")
    elif annotation in (int, float):
        if not any(isinstance(each, annotated_types.Le | annotated_types.Lt) for each in metadata):
            yield name
    elif typing.get_origin(annotation) is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        bounds = [bound for each in more for bound in getattr(each, "metadata", [each])]
        yield from unbounded(inner, metadata + bounds, name)
    elif typing.get_origin(annotation) is not typing.Literal:
        for part in typing.get_args(annotation):
            yield from unbounded(part, metadata, name)


def test_every_number_has_an_upper_bound():
    """A mistyped number is refused in a line before hours or all memory are spent on it."""
    found = {*unbounded(Settings, [], ""), *unbounded(Architecture, [], "")}
    # Temperatures have theirs in a rule of both; a score is read and shown, and nothing is made of it.
    of_temperatures = {f"{name}Settings.temperature" for name in ("GumbelDarts", "SinglePath", "Snas")}
    assert found == {*of_temperatures, "Architecture.score"}
    with pytest.raises(ValidationError, match="1,000,000 >= start >= end > 0"):
        SnasSettings(temperature=(float("inf"), 1.0))


@pytest.mark.parametrize(
    "text, said",
    [
        ("a: [", "line 1: not YAML"),
        ("- 1\n", "expected sections"),
        ("space: {name: stacked}\n", "'data' is missing"),
        ("train: {lr: 1}\nspace: {name: mcan}\ntrain: {lr: 2}\n", "line 3: the key 'train' is in line 1 already"),
        ("train:\n  lr: 1\n  epochs: 1\n  lr: 2\n", "line 4: the key 'lr' is in line 2 already"),
        ("a: " + 100_000 * "[", "YAML that cannot be read"),
        ("a: 2026-02-30\n", "YAML that cannot be read"),
        ("a: &a [*a]\n", "line 1: unknown key 'a'"),  # endless
        ("a0: &a0 [1, 1]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(60)), "unknown key 'a0'"),
    ],
    ids=lambda value: value[:30],
)
def test_what_is_no_settings_file_is_refused(tmp_path, text, said):
    file = tmp_path / "settings.yml"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        read_settings(file)


def test_a_configuration_with_a_key_twice_is_refused(tmp_path):
    file = tmp_path / "config.yml"
    file.write_text("trialCommand: one\nmaxTrialNumber: 2\ntrialCommand: two\n")
    with pytest.raises(InputError, match=f"^{file}, line 3: the key 'trialCommand' is in line 1 already$"):
        read_configuration(file)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_settings(tmp_path / "absent.yml")


def test_a_trials_parameters_replace_settings_of_their_name():
    settings = read_settings(STACKED).with_parameters({"strategy": "darts", "seed": 4, "edges": "all", "dropout": 0.2})
    assert settings.search.strategy == "darts" and settings.search.seed == 4
    assert settings.space.edges == "all" and settings.network.dropout == 0.2


@pytest.mark.parametrize(
    "parameters, said",
    [
        ({"sed": 1}, "unknown parameter 'sed'.*did you mean 'seed'"),
        ({"seed": -1}, "search.seed is -1"),
        ({"edges": "two"}, "space.edges is 'two'"),
        (
            {"strategy": "enas"},
            f"search.strategy is 'enas', expected one of {', '.join(STRATEGIES)}",
        ),
        ({"strategy": "darts", "temperature": [2, 1]}, "unknown parameter 'temperature'"),
    ],
)
def test_a_wrong_parameter_of_a_trial_is_named(parameters, said):
    with pytest.raises(InputError, match=said):
        read_settings(STACKED).with_parameters(parameters)


def test_what_a_file_says_of_its_strategy_is_not_silently_dropped(tmp_path):
    """A trial of another strategy is refused what only the file's strategy has."""
    file = tmp_path / "settings.yml"
    file.write_text(STACKED.read_text().replace("  strategy: snas ", "  temperature: [2.0, 1.0]\n  strategy: snas "))
    assert read_settings(file).with_parameters({"strategy": "single_path"}).search.temperature == (2.0, 1.0)
    with pytest.raises(InputError, match=r"temperature.*'darts' has none"):
        read_settings(file).with_parameters({"strategy": "darts"})
