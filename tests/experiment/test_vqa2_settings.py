"""The settings for VQA-v2 and those of each published result: read, of their size, and started on files of its form."""

from pathlib import Path

import pytest

from experiment.architectures import read_architecture
from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture
from model_space.sizes import NO_DATA, DataSizes
from tests.helpers.official import write_official
from tests.helpers.paths import ROOT
from trainer.callbacks.checkpoint import load_checkpoint
from trainer.callbacks.curve import read_curve
from trainer.data.splits import load_data
from trainer.search import search
from trainer.train import train

FOLDER = ROOT / "settings"
FILES = [FOLDER / "vqa2.yml", *sorted((FOLDER / "vqa2").glob("*.yml"))]

PUBLISHED = {
    "dcn": "65.50",
    "mcan_large": "70.93",
    "mcan_small": "67.20",
    "mmnasnet": "67.80",
    "nas_vqa_first": "67.08",
    "nas_vqa_second_cnn": "66.60",
    "nas_vqa_second_rnn": "66.69",
    "nas_vqa_third_attention": "66.44",
    "nas_vqa_third_mcan_ed": "67.03",
}
WEIGHTS = {"mcan_small": 57.6, "mcan_large": 201.6, "mmnasnet": 59.7}
"""millions, as docs/spaces.md has them"""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Files of the official names, with a few questions."""
    folder = tmp_path_factory.mktemp("vqa2")
    write_official(folder, vg=12)
    return folder


def architecture_of(settings: Settings, name: str) -> Architecture:
    """What the file's result is of, or at random where that was found by a search."""
    if name == "mmnasnet":
        return read_architecture(Path("mmnasnet_vqa"), settings)
    space = settings.space_for(NO_DATA)
    return Architecture(space=space, choices=space.random_choices(1) if space.candidates() else {})


def test_every_published_result_has_a_file_with_its_figure():
    assert {file.stem for file in FILES[1:]} == PUBLISHED.keys()
    for name, figure in PUBLISHED.items():
        head = (FOLDER / "vqa2" / f"{name}.yml").read_text().split("\n\n")[0]
        assert figure in head and all(line.startswith("# ") for line in head.splitlines())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_has_its_size(file):
    settings = read_settings(file)
    sizes = DataSizes(feature_size=2048, vocabulary_size=20_000, answers=3_129)
    millions = architecture_of(settings, file.stem).for_data(sizes).parameters() / 1e6
    assert millions == pytest.approx(WEIGHTS.get(file.stem, millions), abs=0.05)
    assert (settings.network.embedding_dim, settings.data.max_tokens, settings.data.min_answer_count) == (300, 14, 9)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_starts_on_files_of_the_official_form(file, written, tmp_path):
    """With the one path changed; narrow, and for two steps."""
    for each in FILES:
        copy = tmp_path / each.relative_to(FOLDER)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(each.read_text().replace("data/vqa2", str(written)).replace("en_core_web_lg", "null"))
    settings = read_settings(tmp_path / file.relative_to(FOLDER))
    narrow = {"hidden": 64, "heads": 1, "embedding_dim": 8, "flat_mlp_size": 8, "flat_out_size": 8}
    few = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 8}
    changes = {
        "data": settings.data.model_copy(update={"min_answer_count": 1}),
        "network": settings.network.model_copy(update=narrow),
        "search": settings.search.model_copy(update=few),
        "train": settings.train.model_copy(update=few),
    }
    settings = settings.model_copy(update=changes)
    data = load_data(settings.data)
    space = settings.space_for(data.sizes)
    if space.candidates():
        assert search(data, space, settings.search, tmp_path / "search", lambda epoch: None).choices
    checkpoint = train(data, architecture_of(settings, file.stem), settings.train, tmp_path / "train")
    assert load_checkpoint(checkpoint)["global_step"] == 2
    assert len(read_curve(tmp_path / "train")) == 1
