"""What settings will take: measured where there is no data, counted where there is some; what does not fit, and why."""

import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from rich.console import Console

from experiment.actions import plan
from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture
from model_space.sizes import DataSizes
from tests.helpers.official import write_official
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tiny_network
from trainer.cost import STEPS, MadeUp, Measured, Shape, StepCost
from trainer.data.packing.pack import pack

SMALL = {"network": tiny_network().model_dump(), "train": {"batch_size": 16}, "search": {"batch_size": 8}}


@pytest.fixture
def settings_file(tmp_path, monkeypatch) -> Path:
    """Of the official names, where nothing is; with a small network and vocabulary."""
    monkeypatch.setattr(plan, "ASSUMED", DataSizes(feature_size=12, vocabulary_size=20, answers=7))
    content = yaml.safe_load((ROOT / "settings/vqa2.yml").read_text()) | SMALL
    file = tmp_path / "settings.yml"
    file.write_text(yaml.safe_dump(content).replace("data/vqa2", str(tmp_path / "vqa2")))
    return file


def said(settings_file: Path) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    code = plan.run(console, settings_file)
    text = console.export_text()
    assert code == (1 if "does not fit" in text else 0)
    return text


def test_a_plan_without_data(settings_file):
    text = said(settings_file)
    for words in ("training, stacked", "search, snas", "443,757", "82,783", "214,354", "not there: as VQA-v2's"):
        assert words in text
    assert "27,734" in text and "55,469" in text  # steps an epoch, in batches of 16 and 8
    assert "All of it fits." in text


def test_what_does_not_fit_ends_with_1(settings_file, monkeypatch):
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "does not fit: disk" in said(settings_file)


def test_a_plan_counts_what_is_there(settings_file, tmp_path):
    write_official(tmp_path / "vqa2", images=(12, 6, 6), questions=(40, 20, 20), feature_size=16)
    text = said(settings_file)
    assert "not there" not in text and "features 16 wide" in text
    assert [line.split()[:3] for line in text.splitlines() if line.split()[:1] in (["train2014"], ["val2014"])] == [
        ["train2014", "40", "12"],
        ["val2014", "20", "6"],
    ]


def test_a_plan_counts_the_embedded_data_before_it_was_ever_made(settings_file):
    content = yaml.safe_load(settings_file.read_text())
    digits = yaml.safe_load((ROOT / "settings/digits.yml").read_text())["data"]
    digits["digits"] |= {"train_scenes": 8, "val_scenes": 4, "test_scenes": 4}
    text = yaml.safe_dump(content | {"data": digits})
    settings_file.write_text(text.replace("data/digits", str(settings_file.parent / "digits")))
    text = said(settings_file)
    assert "not there" not in text and "features 18 wide" in text


def test_a_plan_knows_what_is_packed(settings_file, tmp_path):
    write_official(tmp_path / "vqa2", images=(12, 6, 6), questions=(40, 20, 20), feature_size=16)
    for name in ("train2014", "val2014"):
        pack(tmp_path / "vqa2" / name)
    shutil.rmtree(tmp_path / "vqa2" / "val2014")
    settings = read_settings(settings_file)
    test = tmp_path / "vqa2" / "test2015"
    unpacked = [plan.sized(split).unpacked for split in (settings.data.train, settings.data.val, settings.data.test)]
    assert unpacked == [frozenset(), frozenset(), {test}]
    assert plan.sizes_of(settings).feature_size == 16


def test_the_parameters_are_those_of_the_network(settings_file):
    content = yaml.safe_load(settings_file.read_text())
    settings = Settings.model_validate(content | {"space": {"name": "mcan", "layers": 2}})
    shape = Shape(DataSizes(feature_size=12, vocabulary_size=20, answers=7))
    architecture = Architecture(space=settings.space_for(shape.sizes), choices={})
    cost = plan.measure(shape, 32, plan.training_steps(architecture, settings.train))
    assert cost.parameters == architecture.parameters()
    assert (cost.small.questions, cost.large.questions) == (2, 8)
    assert cost.bytes(64) >= cost.bytes(4) > 0 and cost.seconds(64) >= cost.seconds(4) > 0


def test_batches_are_made_up_as_the_data_is():
    split = MadeUp(Shape(DataSizes(feature_size=3, vocabulary_size=9, answers=5), max_regions=60), questions=8, calls=2)
    regions = [split[[0, 1]].regions.shape[1] for _ in range(2 * STEPS)]
    assert regions[0::2] == regions[1::2] and regions[:4] == [60] * 4
    shortest, middle, longest = regions[4:10:2]
    assert regions[10::2] == [shortest, middle, longest]
    assert 10 <= shortest < middle < longest < 60
    assert Shape(split.shape.sizes, trim=False).regions() == [100] * STEPS


def cost(gigabytes: float, fixed: float = 0.0) -> StepCost:
    """Of which 64 questions take so much."""
    sizes = (Measured(n, 1e9 * (fixed + n / 64 * (gigabytes - fixed)), seconds=n, forward_seconds=n) for n in (4, 16))
    return StepCost(1_000_000, *sizes)


def test_what_does_not_fit_and_what_to_change(settings_file, monkeypatch):
    settings = Settings.model_validate(yaml.safe_load(settings_file.read_text()) | {"train": {}, "search": {}})
    sizes = DataSizes(feature_size=2048, vocabulary_size=20_000, answers=3_129)
    monkeypatch.setattr(plan, "memory_of_device", lambda: 10e9)

    def misfits(settings=settings, **costs: StepCost) -> list[str]:
        data = settings.data
        train = plan.Split("train2014", 443_757, 82_783, False, frozenset({data.train.features}))
        splits = {data.train: train, data.val: plan.Split("val2014", 1, 1, True, frozenset())}
        needs = plan.needs(settings, costs, splits, sizes)
        return [need.misfit for need in needs if need.misfit and need.of.startswith(("memory", "disk"))]

    assert misfits(training=cost(9), search=cost(10)) == []
    (said,) = misfits(training=cost(30, fixed=2))
    assert said.startswith("memory, training: 30.0 GB needed, 10.0 GB there: train.accumulate: 4,")
    (said,) = misfits(search=cost(20))
    assert said.endswith("search.accumulate: 2, which is the same search")
    untrimmed = settings.model_copy(update={"data": settings.data.model_copy(update={"trim": False})})
    (said,) = misfits(untrimmed, training=cost(30, fixed=12))
    assert "not even one question fits" in said and "data.trim: true" in said

    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    (said,) = misfits(training=cost(9))
    assert said.startswith("disk, features still to be packed: 12.5 GB needed, 1.0 GB there: train on the .npz files")


def test_features_that_several_splits_share_are_packed_once():
    """As in train+val+vg, val itself among them; those of the test split are packed too."""
    settings = read_settings(ROOT / "settings/vqa2/mcan_large.yml")
    data = settings.data
    splits = {files: plan.sized(files) for files in (*data.train_parts, data.val, data.test)}
    images = plan.to_pack(splits.values(), plan.ASSUMED) / (plan.MEAN_REGIONS * 2 * 2048)
    assert images == 82_783 + 40_504 + 81_434
    questions = 443_757 + 214_354 + 485_000  # val is read once, test not at all
    needed = {need.of: need.needed for need in plan.needs(settings, {}, splits, plan.ASSUMED)}
    assert needed["host memory, while questions are read"] == plan.READING * questions
