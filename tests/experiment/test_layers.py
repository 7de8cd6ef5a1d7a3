"""Settings upon settings: what a file takes from its base, what it changes, and where a mistake stands."""

import pytest
import yaml

from experiment.settings import read_settings
from model_space.errors import InputError
from tests.helpers.paths import ROOT, STACKED


@pytest.fixture
def write(tmp_path):
    """Writes a settings file into one folder, beside a copy of settings/digits.yml."""
    (tmp_path / "digits.yml").write_text(STACKED.read_text())

    def write(text: str, name: str = "own.yml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_section_changes_the_keys_that_it_names(write):
    base = read_settings(STACKED)
    settings = read_settings(write("base: digits.yml\nnetwork: {heads: 4}\ndata: {max_tokens: 9}\nspace: {cells: 2}\n"))
    assert settings.network == base.network.model_copy(update={"heads": 4})
    assert settings.data == base.data.model_copy(update={"max_tokens": 9})
    assert settings.space == base.space.model_copy(update={"cells": 2})
    assert (settings.encoder, settings.search, settings.train) == (base.encoder, base.search, base.train)


def test_a_section_with_a_name_is_another_one(write):
    settings = read_settings(write("base: digits.yml\nspace: {name: stacked, graph: cnn}\n"))
    assert settings.space == type(settings.space)(graph="cnn")  # of its defaults, not of the base's cells and nodes


def test_a_split_is_taken_whole(write):
    split = {"questions": "q.json", "annotations": "a.json", "features": "f"}
    write(yaml.safe_dump({"base": "digits.yml", "data": {"digits": None, "train": split, "val": split, "test": split}}))
    unanswered = {"questions": "q.json", "features": "f"}
    settings = read_settings(write(yaml.safe_dump({"base": "own.yml", "data": {"test": unanswered}}), "test.yml"))
    assert settings.data.test.annotations is None and str(settings.data.train.annotations) == "a.json"


def test_a_base_may_have_a_base(write):
    write("base: digits.yml\nnetwork: {heads: 4}\nspace: {name: mcan, layers: 2}\n", "middle.yml")
    settings = read_settings(write("base: middle.yml\nspace: {layers: 3}\n"))
    assert (settings.network.heads, settings.network.hidden) == (4, 64)
    assert (settings.space.name, settings.space.layers) == ("mcan", 3)


@pytest.mark.parametrize(
    "text, said",
    [
        ("base: digits.yml\n\nnetwork: {haeds: 4}\n", r"own.yml, line 3: unknown key 'network.haeds'; did you mean"),
        ("base: digits.yml\nnetwork:\n  heads: 5\n", r"own.yml, line 2: network: hidden is 64 and heads is 5"),
        ("base: digits.yml\nspace: {name: mcan, nodes: 3}\n", r"own.yml, line 2: unknown key 'space.nodes'"),
        ("base: digits.yml\nspace: {edges: two}\n", r"own.yml, line 2: space.edges is 'two'"),
        ("base: digits.yml\nnetwrok: {heads: 4}\n", r"own.yml, line 2: unknown key 'netwrok'; did you mean 'network'"),
        ("# a\nbase: [digits.yml]\n", r"own.yml, line 2: base is \['digits.yml'\]: must be the path"),
        ("# a\nbase: absent.yml\n", r"own.yml, line 2: base: .*absent.yml: settings cannot be read: No such file"),
        ("base: own.yml\n", r"own.yml, line 1: base: a settings file cannot be based on itself: .*own.yml → "),
    ],
)
def test_a_mistake_is_said_with_its_own_file_and_line(write, text, said):
    with pytest.raises(InputError, match=said) as error:
        read_settings(write(text))
    assert "\n" not in str(error.value)


def test_a_mistake_of_a_base_is_said_with_its_file_and_line(write):
    line = STACKED.read_text().split("nodes: 3")[0].count("\n") + 1
    write(STACKED.read_text().replace("nodes: 3", "nodes: 0"), "digits.yml")
    with pytest.raises(InputError, match=rf"digits.yml, line {line}, a base of .*own.yml: space.nodes is 0"):
        read_settings(write("base: digits.yml\nspace: {cells: 2}\n"))
    assert read_settings(write("base: digits.yml\nspace: {nodes: 2}\n")).space.nodes == 2


def test_files_that_are_based_on_each_other_are_refused(write):
    write("base: own.yml\n", "other.yml")
    with pytest.raises(InputError, match=r"other.yml, line 1: base: .* itself: .*own.yml → .*other.yml → .*own.yml"):
        read_settings(write("base: other.yml\n"))


@pytest.mark.parametrize("file", sorted((ROOT / "settings").rglob("*.yml")), ids=lambda file: file.stem)
def test_a_shipped_file_repeats_nothing_of_its_base(file):
    content = yaml.safe_load(file.read_text())
    if "base" not in content:
        return
    base = read_settings(file.parent / content.pop("base"))
    for section, keys in content.items():
        if "name" not in keys:
            repeated = {key for key, value in keys.items() if getattr(getattr(base, section), key, ()) == value}
            assert not repeated, (section, repeated)
