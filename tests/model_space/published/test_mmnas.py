"""Architecture files of MMnas: the published ones, those that are written here, and wrong ones."""

import json

import pytest
import torch

from model_space.architecture import Architecture, Space
from model_space.errors import InputError
from model_space.published import mmnas
from model_space.sizes import NetworkSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from tests.helpers.tiny import tiny_batch, tiny_space

WIDE = {"hidden": 128, "heads": 2}
"""Heads of 64 features, as the published architectures have them."""
SPACE = tiny_space(EncoderDecoderSettings())


def read(text: str, space: Space = SPACE) -> Architecture:
    return mmnas.read(text, "found.json", space)


def test_the_published_architectures():
    space = tiny_space(MCANSettings()).model_copy(update={"network": NetworkSettings()})
    architecture = mmnas.published("mmnasnet_vqa", space)
    form, choices = architecture.space.backbone, architecture.choices
    assert (form.encoder_blocks, form.decoder_blocks, form.cells) == (12, 18, 1) and form == EncoderDecoderSettings()
    assert choices.keys() == tiny_space(form).random_choices(0).keys()
    decoder = [choices[f"decoder_block{i}"] for i in range(1, 19)]
    counts = {operation: decoder.count(operation) for operation in decoder}
    assert counts == {
        "guided_attention": 6,
        "feed_forward": 7,
        "relational_self_attention": 4,
        "self_attention": 1,
    }
    assert [choices[f"encoder_block{i}"] for i in (1, 4, 5, 9, 12)] == [
        *["self_attention"] * 2,
        "feed_forward",
        "self_attention",
        "feed_forward",
    ]
    with pytest.raises(InputError, match="unknown architecture 'mmnas', expected one of mmnas_mcan, mmnasnet_vqa"):
        mmnas.published("mmnas", space)
    with pytest.raises(InputError, match="heads of 64 features, but those of the network have 8"):
        mmnas.published("mmnasnet_vqa", SPACE)


@pytest.mark.parametrize("seed", range(3))
def test_a_file_is_read_as_it_was_written(seed):
    space = tiny_space(EncoderDecoderSettings(encoder_blocks=3, decoder_blocks=6))
    architecture = Architecture(space=space, choices=space.random_choices(seed))
    text = mmnas.write(architecture)
    assert read(text) == architecture
    assert mmnas.write(read(text)) == text
    for name, path in mmnas.PUBLISHED.items():
        published = mmnas.published(name, tiny_space(EncoderDecoderSettings(), **WIDE))
        assert json.loads(mmnas.write(published)) == json.loads(path.read_text())


def test_what_the_file_does_not_say_is_of_the_space():
    text = '{"enc": [["feed_forward"]], "dec": [["rel_self_att_8"], ["guided_att_8"]]}'
    form = read(text, tiny_space(EncoderDecoderSettings(cells=3, relation_size=5))).space.backbone
    assert form == EncoderDecoderSettings(encoder_blocks=1, decoder_blocks=2, cells=3, relation_size=5)
    found = read(text, tiny_space(MCANSettings(), dropout=0.3)).space
    assert found.backbone == EncoderDecoderSettings(encoder_blocks=1, decoder_blocks=2)
    assert found.network.dropout == 0.3


def test_repeated_cells_are_written_out():
    form = EncoderDecoderSettings(encoder_blocks=1, decoder_blocks=3, cells=2, relation_size=5)
    space = tiny_space(form)
    repeated = Architecture(space=space, choices=space.random_choices(1))
    written_out = read(mmnas.write(repeated), tiny_space(form.model_copy(update={"cells": 1})))
    form = written_out.space.backbone
    assert (form.encoder_blocks, form.decoder_blocks, form.cells) == (2, 6, 1)
    unrolled, network = written_out.network().double(), repeated.network().double()
    unrolled.load_state_dict(dict(zip(unrolled.state_dict(), network.state_dict().values(), strict=True)))
    batch = tiny_batch()
    torch.testing.assert_close(unrolled(*batch), network(*batch), rtol=0, atol=0)


def test_of_several_epochs_the_last_is_taken_and_said(caplog):
    first, last = (
        {"enc": [["self_att_8"]], "dec": [["feed_forward"]]},
        {"enc": [["feed_forward"]], "dec": [["guided_att_8"]]},
    )
    found = read(json.dumps({"epoch10": last, "epoch9": first}))
    assert found.choices == {"encoder_block1": "feed_forward", "decoder_block1": "guided_attention"}
    assert caplog.messages == ["found.json: has 2 epochs, the last is taken: 'epoch10'"]
    caplog.clear()
    assert read(json.dumps(last)) == found == read(json.dumps({"epoch0": last})) == read(json.dumps({"epoch00": last}))
    assert not caplog.messages


@pytest.mark.parametrize(
    "enc, dec, said",
    [
        ('["self_at_8"]', '["feed_forward"]', ["'enc', block 1", "'self_at_8'", "did you mean 'self_att_8'"]),
        ('["guided_att_8"]', '["feed_forward"]', ["'enc', block 1", "expected one of self_att_8, feed_forward"]),
        ('["self_att_8"]', '["feed_forward"], ["gated_linear_1"]', ["'dec', block 2", "unknown operation"]),
        ('["self_att_8"]', '["rel_self_att_64"]', ["'dec', block 1", "heads of 64", "network have 8"]),
        ('["self_att_8"]', '["feed_forward", "guided_att_8"]', ["'dec', block 1", "a list of one operation"]),
        ('["self_att_8"]', "[]", ["'dec', block 1", "a list of one operation"]),
        ('["self_att_8"]', "", ["'dec'", "at least one block"]),
        ('["self_att_8"], 3', '["feed_forward"]', ["'enc', block 2", "a list of one operation"]),
        ('["self_att_8"]', '[["feed_forward"]', ["line 1", "not an architecture of MMnas", "JSON"]),
        ('["self\\n_att_8"]', '["feed_forward"]', ["'enc', block 1", "unknown operation"]),
    ],
)
@pytest.mark.parametrize("form", ['{"epoch0": {"enc": [%s], "dec": [%s]}}', '{"enc": [%s], "dec": [%s]}'])
def test_what_is_wrong_in_a_file_is_named(form, enc, dec, said):
    with pytest.raises(InputError) as error:
        read(form % (enc, dec))
    message = str(error.value)
    assert message.startswith("found.json") and "\n" not in message
    for words in said:
        assert words in message


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "3",
        '{"enc": [["feed_forward"]]}',
        '{"epoch0": []}',
        '{"epoch0": {"dec": []}}',
        '{"epoch99999999999999999999": {}}',
    ],
)
def test_what_is_not_a_file_of_mmnas_is_refused(text):
    with pytest.raises(InputError, match="expected the keys 'enc' and 'dec'"):
        read(text)


def test_what_a_file_cannot_say_is_not_written_nor_read():
    space = tiny_space(EncoderDecoderSettings(encoder_blocks=1, decoder_blocks=1), feed_forward_size=20)
    with pytest.raises(InputError, match=r"network\.feed_forward_size is 20"):
        mmnas.write(Architecture(space=space, choices=space.random_choices(0)))
    with pytest.raises(InputError, match=r"network\.feed_forward_size is 20"):
        read('{"enc": [["feed_forward"]], "dec": [["feed_forward"]]}', space)
    with pytest.raises(InputError, match=r"'mcan'.*cannot be written"):
        mmnas.write(Architecture(space=tiny_space(MCANSettings()), choices={}))
