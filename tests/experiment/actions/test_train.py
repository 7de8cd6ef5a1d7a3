"""What a training says while it runs: a bar in a terminal, and a line an epoch in a file."""

import io
import re

import yaml
from rich.console import Console

from experiment.actions import train
from tests.helpers.trained import settings_file


def test_without_a_terminal_a_training_says_a_line_an_epoch(tiny_data_settings, tmp_path, capfd):
    file = settings_file(tmp_path / "settings.yml", tiny_data_settings, name="mcan", layers=1)
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(content | {"train": {"epochs": 3, "batch_size": 16}}))
    log = io.StringIO()
    train.run(Console(file=log, width=200), "mcan", settings=file, folder=tmp_path / "run")
    said = re.findall(r"^epoch (\d) of 3: loss \d+\.\d{3}, validation \d+\.\d %$", log.getvalue(), re.M)
    assert said == ["1", "2", "3"]
    out, err = capfd.readouterr()
    assert "\r" not in out + err and "it/s" not in out + err

    terminal = io.StringIO()
    train.run(Console(file=terminal, force_terminal=True), "mcan", settings=file, folder=tmp_path / "shown")
    assert "Epoch 2" in capfd.readouterr().out and "epoch 1 of" not in terminal.getvalue()
