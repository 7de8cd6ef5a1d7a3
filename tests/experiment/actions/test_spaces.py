"""What `launch.py --spaces` counts, and the settings that ship with each space."""

import re
from itertools import product

import pytest
import torch
from rich.console import Console
from torch import nn

from experiment.actions.spaces import all_listings, multiply_adds, space_of, table
from experiment.settings import read_settings
from model_space.encoders import ENCODERS
from model_space.operations import Attention
from model_space.sizes import NO_DATA
from model_space.spaces import SPACES
from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.paths import ROOT
from tests.helpers.running import launch
from tests.helpers.tiny import tiny_space


@pytest.mark.parametrize("space", [PairedSettings(layers=2), StackedSettings(edges="one", nodes=1)])
def test_number_of_architectures_by_enumeration(space):
    fields = tiny_space(space)
    assert fields.size() == len(list(product(*fields.candidates().values())))


def test_multiply_adds_of_networks_that_can_be_counted_by_hand():
    with torch.device("meta"):
        assert multiply_adds(nn.Linear(8, 5), torch.zeros(3, 8)) == 3 * 8 * 5
        x, mask = torch.zeros(1, 6, 16), torch.ones(1, 6, dtype=torch.bool)
        projections, map_and_sum = 4 * 6 * 16 * 16, 2 * 6 * 6 * 16
        assert multiply_adds(Attention(16, 2, 0.0), x, x, mask) == projections + map_and_sum


def test_every_space_and_encoder_is_listed():
    spaces = [space_of(listing) for listing in all_listings()]
    assert {space.backbone.name for space in spaces} == set(SPACES)
    assert {space.encoder.name for space in spaces} == set(ENCODERS)


def test_table_has_a_line_a_listing():
    small = [each for each in all_listings() if each.backbone.name in ("dcn", "mcan") and each.encoder is None]
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table(small))
    for listing in small:
        assert listing.name in captured.get()


def test_command_prints_the_table_of_the_documents():
    done = launch("--spaces")
    assert done.returncode == 0, done.stderr
    printed = {tuple(re.split(r"\s{2,}", line.strip())) for line in done.stdout.splitlines()}
    for line in re.findall(r"^\| (?!space or|---)(.+) \|$", (ROOT / "docs/spaces.md").read_text(), re.MULTILINE):
        assert tuple(line.split(" | ")) in printed


@pytest.mark.parametrize("file", sorted(ROOT.glob("settings/*.yml")), ids=lambda file: file.stem)
def test_shipped_settings_are_right(file):
    settings = read_settings(file)
    assert settings.space_for(NO_DATA).candidates() or settings.space.name == "dcn"
