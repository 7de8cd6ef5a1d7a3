"""An architecture from each of the forms that there are, by file and by name."""

from pathlib import Path

import pytest

from experiment.architectures import read_architecture
from experiment.settings import Settings
from model_space.encoders.recurrent import RecurrentSettings
from model_space.errors import InputError
from model_space.published import mmnas
from model_space.sizes import NetworkSettings
from model_space.spaces.dcn import DCNSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings

GENOTYPE = "VQAGenotype(img_gene=[('self_attn', 0)], que_gene=[('none', 0)], rnn_gene=[('relu', 0)])"
SPACES = [
    DCNSettings(layers=1),
    MCANSettings(layers=1),
    EncoderDecoderSettings(encoder_blocks=1),
    StackedSettings(cells=1, nodes=1),
]


@pytest.fixture(params=SPACES, ids=lambda space: space.name)
def settings(request, tiny_data_settings) -> Settings:
    network = NetworkSettings(hidden=128, heads=2)
    return Settings(data=tiny_data_settings, space=request.param, network=network)


def test_an_architecture_in_every_form(settings, tmp_path):
    (tmp_path / "mmnas.json").write_text('{"epoch0": {"enc": [["self_att_64"]], "dec": [["guided_att_64"]]}}')
    (tmp_path / "log.txt").write_text(f"epoch 3 {GENOTYPE}\n")
    found = read_architecture(tmp_path / "mmnas.json", settings)
    assert found.choices == {"encoder_block1": "self_attention", "decoder_block1": "guided_attention"}
    found = read_architecture(tmp_path / "log.txt", settings)
    assert found.choices["recurrent_node1_activation"] == "relu" and found.space.encoder.name == "recurrent"
    found.save(tmp_path / "own.json")
    assert read_architecture(tmp_path / "own.json", settings) == found
    with pytest.raises(InputError, match="cannot be read"):
        read_architecture(tmp_path / "absent.json", settings)


def test_a_name_means_the_same_with_all_settings(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mcan").mkdir()  # a name comes before a file
    (tmp_path / "mmnasnet_vqa").write_text("{}")
    assert len(read_architecture(Path("mmnasnet_vqa"), settings).choices) == 30
    point = read_architecture(Path("mmnas_mcan"), settings)
    assert point.space.backbone == EncoderDecoderSettings() and len(point.choices) == 30
    for name in ("mcan", "dcn"):
        if settings.space.name == name:
            assert read_architecture(Path(name), settings).space.backbone == settings.space
        else:
            with pytest.raises(InputError, match=rf"^{name}: .*\{{name: {name}\}}.* have the space '.*mmnas_mcan"):
                read_architecture(Path(name), settings)


def test_a_searched_space_is_no_architecture(tiny_data_settings):
    many = "has many architectures, and none was named"
    with pytest.raises(InputError, match=rf"'stacked' .*{many}"):
        read_architecture(Path("stacked"), Settings(data=tiny_data_settings, space=StackedSettings()))
    fixed = Settings(data=tiny_data_settings, space=MCANSettings(layers=1), encoder=RecurrentSettings(nodes=1))
    with pytest.raises(InputError, match=rf"'mcan' with the question encoder 'recurrent' {many}"):
        read_architecture(Path("mcan"), fixed)


def test_an_unknown_name_is_refused_with_those_that_are_meant(settings):
    with pytest.raises(InputError, match=r"^mmnasnet: no file, and no name .*did you mean 'mmnasnet_vqa'"):
        read_architecture(Path("mmnasnet"), settings)
    with pytest.raises(InputError, match=f"known are .*{', '.join(mmnas.PUBLISHED)}"):
        read_architecture(Path("zzz"), settings)


def test_settings_say_what_a_genotype_does_not(tiny_data_settings, tmp_path):
    (tmp_path / "log.txt").write_text(GENOTYPE)
    settings = Settings(
        data=tiny_data_settings, space=StackedSettings(cells=7), encoder=RecurrentSettings(nodes=3, hidden_dropout=0.4)
    )
    space = read_architecture(tmp_path / "log.txt", settings).space
    assert space.backbone == StackedSettings(edges="one", cells=7, nodes=1)
    assert space.encoder == RecurrentSettings(edges="one", nodes=1, hidden_dropout=0.4)
