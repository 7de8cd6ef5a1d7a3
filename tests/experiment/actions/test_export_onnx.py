"""ONNX files compute what the network computes, at any number of questions, regions and words."""

import json
import sys

import onnx
import onnxruntime
import pytest
import torch
from rich.console import Console

from experiment.actions import export_onnx
from experiment.actions.export_onnx import CHECKED, difference
from experiment.actions.export_onnx import write as write_onnx
from model_space.architecture import Architecture
from model_space.encoders.recurrent import RecurrentSettings
from model_space.errors import InputError
from model_space.spaces.dcn import DCNSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.tiny import tiny_space
from tests.helpers.trained import settings_file, trained
from trainer.train import load_trained


def test_a_checkpoint_as_an_engineer_uses_it(tiny_data, tiny_data_settings, tmp_path):
    checkpoint = trained(tiny_data, tmp_path / "trained", MCANSettings(layers=1))
    settings = settings_file(tmp_path / "settings.yml", tiny_data_settings, name="mcan", layers=1)
    console = Console(record=True, width=200)
    export_onnx.run(console, [checkpoint, tmp_path / "out" / "network.onnx"], settings=settings)
    shown = console.export_text()
    assert shown.count("largest difference") == len(CHECKED) and "1 × 1 regions × 1 words" in shown
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["network.onnx"]

    session = onnxruntime.InferenceSession(tmp_path / "out" / "network.onnx")
    vocabulary = json.loads(session.get_modelmeta().custom_metadata_map["vocabulary"])
    network, words_and_answers, _ = load_trained(checkpoint)
    assert vocabulary == words_and_answers.to_dict()
    batch = tiny_data.val[[3, 1, 4]]
    given = {name: getattr(batch, name).numpy() for name in ("regions", "region_mask", "tokens", "token_mask", "boxes")}
    (logits,) = session.run(["logits"], given)
    with torch.no_grad():
        expected = network.eval()(*(torch.from_numpy(value) for value in given.values()))
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-4, atol=1e-5)
    assert network.question_encoder.lstm(torch.zeros(1, 1, 8)).shape == (1, 1, 16)


RELATIONAL = {
    "encoder_block1": "feed_forward",
    "decoder_block1": "relational_self_attention",
    "decoder_block2": "guided_attention",
}


@pytest.mark.parametrize(
    ("backbone", "encoder", "choices"),
    [
        (EncoderDecoderSettings(encoder_blocks=1, decoder_blocks=2, relation_size=8), None, RELATIONAL),
        (DCNSettings(layers=1), RecurrentSettings(edges="one", nodes=3), None),
        (StackedSettings(edges="one", cells=1, nodes=2), RecurrentSettings(edges="all", nodes=2), None),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_kind_of_network(tmp_path, backbone, encoder, choices):
    space = tiny_space(backbone, encoder, dropout=0.1, glimpses=2, region_norm=True)
    network = Architecture(space=space, choices=choices or space.random_choices(3)).network().eval()
    write_onnx(network, {}, tmp_path / "network.onnx")
    onnx.checker.check_model(tmp_path / "network.onnx")
    for sizes in CHECKED:
        largest, allowed = difference(tmp_path / "network.onnx", network, sizes)
        assert largest <= min(allowed, 1e-5), sizes


def test_a_package_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match="'onnxscript' is not installed: pip install onnx onnxscript onnxruntime"):
        export_onnx.run(Console(), [tmp_path / "absent.ckpt", tmp_path / "x.onnx"], settings=tmp_path / "absent.yml")
