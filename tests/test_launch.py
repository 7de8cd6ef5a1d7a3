"""The command line: train and evaluate an architecture file; a user's mistake is one line and exit code 2."""

import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import launch
from model_space.architecture import Architecture
from model_space.spaces.stacked import StackedSettings
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tiny_network, tiny_space


@pytest.fixture
def settings(tiny_data_settings, tmp_path) -> Path:
    """A settings file for the tiny data."""
    file = tmp_path / "settings.yml"
    content = {
        "data": tiny_data_settings.model_dump(mode="json"),
        "space": {"name": "stacked", "edges": "one", "cells": 1, "nodes": 2},
        "network": tiny_network().model_dump(),
        "train": {"epochs": 2, "batch_size": 16},
    }
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture
def architecture(tmp_path) -> Path:
    space = tiny_space(StackedSettings(edges="one", cells=1, nodes=2))
    path = tmp_path / "found.json"
    Architecture(space=space, choices=space.random_choices(1)).save(path)
    return path


def run(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["launch.py", *map(str, arguments)])
    code = 0
    try:
        launch.main()
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else 1
    said = capsys.readouterr()
    return code, said.out, said.err


def test_train_then_val(settings, architecture, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "trained"
    code, out, _ = run(monkeypatch, capsys, "--train", architecture, "--settings", settings, "--folder", folder)
    assert code == 0
    trained = re.search(r": ([\d.]+) % \(", out)[1]
    code, out, _ = run(monkeypatch, capsys, "--val", folder / "last.ckpt", "--settings", settings)
    assert code == 0 and f"{trained} %" in out
    assert all(kind in out for kind in ("yes/no", "number", "other"))


def test_mistakes_are_one_line_and_exit_code_2(settings, architecture, tmp_path, monkeypatch, capsys):
    cut = tmp_path / "cut.json"
    cut.write_text(architecture.read_text()[:100])
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(settings.read_text().replace("epochs", "epoch"))
    config = tmp_path / "config.yml"
    config.write_text("trialCommand: python -m experiment.manager.trial x.yml\nexperimentWorkingDirectory: none-here\n")
    no_config = tmp_path / "no-config.yml"
    no_config.write_text("trialCommand: 3\n")
    for arguments, said in [
        (["--train", cut, "--settings", settings], "cut.json, line"),
        (["--train", architecture, "--settings", wrong], "did you mean 'epochs'"),
        (["--train", architecture, "--settings", tmp_path / "absent.yml"], "absent.yml"),
        (["--val", tmp_path / "absent.ckpt", "--settings", settings], "no such checkpoint"),
        (["--export", "--config", config], "no experiment here yet"),
        (["--report", "--config", config], "no experiment here yet"),
        (["--report", "", "--config", config], "no experiment here yet"),
        (["--export", "--config", no_config], "'trialCommand' is missing"),
        (["--config", config], "x.yml"),
    ]:
        code, out, err = run(monkeypatch, capsys, *arguments)
        assert code == 2, arguments
        assert said in err and err.count("\n") == 1 and not out, (arguments, out, err)


def test_help_fits_a_screen_and_actions_exclude_each_other():
    shown = subprocess.run(
        [sys.executable, "launch.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.count("\n") <= 40
    both = ["launch.py", "--train", "a", "--val", "b"]
    refused = subprocess.run([sys.executable, *both], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2 and "not allowed with" in refused.stderr


@pytest.mark.parametrize("action", [launch.SEARCH, *launch.ACTIONS], ids=lambda action: action.name)
def test_an_action_takes_what_is_declared(action):
    """``run`` takes a console, the value of the flag if there is one, and the declared options by their names."""
    parameters = inspect.signature(import_module(f"experiment.actions.{action.name}").run).parameters.values()
    by_name = {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}
    assert by_name.keys() == set(action.options)
    has_value = action is not launch.SEARCH and action.argument.get("action") != "store_true"
    assert len(parameters) - len(by_name) == 1 + has_value


def test_an_interrupted_action_says_whether_it_resumes(monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    for name, arguments in {"pack": ["--pack", "s.yml"], "search": [], "plan": ["--plan", "s.yml"]}.items():
        monkeypatch.setattr(f"experiment.actions.{name}.run", interrupted)
        monkeypatch.setattr(sys, "argv", ["launch.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            launch.main()
        assert ("resumes it" in ended.value.code) == (name != "plan")


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("--train a --output b", "--output goes with --report or --test or --answer"),
        ("--question what?", "--question goes with --answer"),
        ("--check a --settings b", "--settings goes with --train or --val or --test"),
        ("--val a --save-predictions b", "--save-predictions goes with --test"),
        ("--train a --experiment b", "--experiment goes with --export"),
        ("--plan a --config b", "--config goes with a search or --export"),
        ("--answer a --question b", "--answer needs either --photo PHOTO or --image FEATURES"),
        ("--answer a --image b --photo c", "--answer needs either --photo PHOTO or --image FEATURES"),
        ("--answer a --photo b --picture c", "--picture is for features (--image)"),
    ],
)
def test_an_option_of_another_action_is_refused(monkeypatch, capsys, arguments, said):
    code, out, err = run(monkeypatch, capsys, *arguments.split())
    assert code == 2 and said in err and not out


@pytest.mark.parametrize(
    "version, system, machine, said",
    [
        ((3, 9, 1), "Linux", "x86_64", "Python 3.9 is not supported"),
        ((3, 14, 0), "Linux", "x86_64", "Python 3.14 is not supported"),
        ((3, 11, 0), "Linux", "aarch64", "Linux on aarch64 is not supported"),
        ((3, 11, 0), "Darwin", "arm64", "Darwin on arm64 is not supported"),
        ((3, 11, 0), "Windows", "AMD64", "Windows on AMD64 is not supported"),
    ],
)
def test_what_nni_has_no_packages_for_is_said(version, system, machine, said):
    from experiment.supported import complaint

    assert said in complaint(version, system, machine)
    assert complaint((3, 11, 7), "Linux", "x86_64") is None
