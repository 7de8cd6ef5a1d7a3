"""Checkpoints of mcan-vqa and mmnas, made of the golden weights."""

import os
import pickle
from pathlib import Path

import pytest
import torch
import yaml

from experiment.settings import Settings
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.published.checkpoints import MCAN_NAMES, published_network, renamed
from model_space.sizes import DataSizes
from model_space.spaces.dcn import DCNSettings
from model_space.spaces.mcan import MCANSettings
from tests.helpers import reference
from tests.helpers.reference import mcan_like, mmnas_like, names_at, save_published, weights_of
from tests.helpers.running import launch
from tests.helpers.tiny import tiny_network
from trainer.callbacks.checkpoint import load_checkpoint


def mcan() -> tuple[dict, Architecture]:
    arrays, config = reference.load("mcan.npz")
    return arrays, mcan_like(arrays, config)


def mmnas() -> tuple[dict, Architecture]:
    arrays, config = reference.load("mmnas.npz")
    return arrays, mmnas_like(arrays, config)


def logits(network, arrays) -> torch.Tensor:
    image, question = torch.from_numpy(arrays["image"]).float(), torch.from_numpy(arrays["question"])
    boxes = torch.from_numpy(arrays["box_xyxy"]).float() if "box_xyxy" in arrays else torch.zeros(*image.shape[:2], 4)
    with torch.no_grad():
        return network.eval()(image, image.abs().sum(-1) > 0, question, question > 0, boxes).double()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_weights_give_the_published_answers(tmp_path, prefix):
    arrays, architecture = mcan()
    content = load_checkpoint(save_published(tmp_path / "mcan.pkl", weights_of(arrays), prefix))
    answer = logits(published_network(content, architecture, "mcan.pkl"), arrays).sigmoid()
    torch.testing.assert_close(answer, torch.from_numpy(arrays["probability"]), rtol=0, atol=1e-5)

    arrays, architecture = mmnas()
    content = load_checkpoint(save_published(tmp_path / "mmnas.pkl", weights_of(arrays), prefix))
    answer = logits(published_network(content, architecture, "mmnas.pkl"), arrays)
    torch.testing.assert_close(answer, torch.from_numpy(arrays["logit"]), rtol=0, atol=1e-5)


def test_a_misfit_names_three(tmp_path):
    arrays, architecture = mcan()
    content = load_checkpoint(save_published(tmp_path / "mcan.pkl", weights_of(arrays)))
    other = architecture.for_data(DataSizes(feature_size=12, vocabulary_size=9, answers=5))
    with pytest.raises(InputError, match=r"embedding\.weight is .*; proj\.weight is .*; proj\.bias is") as refused:
        published_network(content, other, "mcan.pkl")
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="published checkpoints are of the spaces"):
        space = architecture.space.model_copy(update={"backbone": DCNSettings()})
        published_network(content, Architecture(space=space, choices={}), "mcan.pkl")
    _, of_mmnas = mmnas()
    with pytest.raises(InputError, match=r"does not fit the network of the settings \([0-9]+ of its names do not\)"):
        published_network(content, of_mmnas, "mcan.pkl")


class Hostile:
    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_what_is_hostile_or_cut_short_is_refused(tmp_path):
    whole = save_published(tmp_path / "whole.pkl", weights_of(mcan()[0]))
    (tmp_path / "cut.pkl").write_bytes(whole.read_bytes()[:5000])
    torch.save({"state_dict": Hostile(tmp_path / "ran")}, tmp_path / "zip.pkl")
    (tmp_path / "old.pkl").write_bytes(pickle.dumps({"state_dict": Hostile(tmp_path / "ran")}))
    for name in ("cut.pkl", "zip.pkl", "old.pkl"):
        with pytest.raises(InputError, match="not a whole checkpoint"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_val_of_a_published_checkpoint(tiny_data, tiny_data_settings, tmp_path):
    arrays, _ = mcan()
    sizes, settings = tiny_data.sizes, Settings(data=tiny_data_settings, space=MCANSettings(), network=tiny_network())
    space = settings.space_for(sizes)
    network = Architecture(space=space, choices={}).network()
    by_ours = {renamed(name, MCAN_NAMES): name for name in names_at(space.backbone.layers, arrays)}
    weights = {by_ours[name]: weight for name, weight in network.state_dict().items()}
    file = tmp_path / "settings.yml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    done = launch("--val", save_published(tmp_path / "epoch13.pkl", weights), "--settings", file)
    assert done.returncode == 0 and "accuracy on" in done.stdout, done.stderr
    weights.popitem()
    done = launch("--val", save_published(tmp_path / "epoch13.pkl", weights), "--settings", file)
    assert done.returncode == 2 and "missing" in done.stderr and len(done.stderr.splitlines()) == 1
