"""The examples in docstrings print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

from model_space.architecture import Architecture
from model_space.spaces.stacked import StackedSettings
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tiny_space

FILES = [
    file
    for room in ("experiment", "trainer", "model_space", "benchmarks", "tests/helpers")
    for file in sorted((ROOT / room).rglob("*.py"))
    if ">>> " in file.read_text()
]


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", map(module_name, FILES))
def test_examples(name, tmp_path, monkeypatch):
    """Examples run in a folder of their own, which holds an architecture.json and the settings files."""
    space = tiny_space(StackedSettings(edges="one", cells=1, nodes=2))
    Architecture(space=space, choices=space.random_choices(seed=0), score=61.25).save(tmp_path / "architecture.json")
    (tmp_path / "settings").symlink_to(ROOT / "settings")
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried and not failed
