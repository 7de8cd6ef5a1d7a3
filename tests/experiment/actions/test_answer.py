"""One question to a network: what it answers is what it answers in a split, and the picture shows where it looks."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from experiment.actions import answer
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.operations import SelfAttention
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from tests.helpers.tiny import tiny_space
from tests.helpers.trained import settings_file, trained
from trainer.data.splits import load_split
from trainer.data.vocabulary import tokenise
from trainer.data.vqa import read_questions
from trainer.evaluation.evaluate import by_question
from trainer.evaluation.predict import predict
from trainer.train import load_trained


@pytest.fixture(scope="module")
def checkpoint(tiny_data, tmp_path_factory) -> Path:
    return trained(tiny_data, tmp_path_factory.mktemp("trained"), MCANSettings(layers=1))


@pytest.fixture
def images(tiny_data_settings) -> list[Path]:
    return sorted(tiny_data_settings.val.features.iterdir())


@pytest.fixture
def said(checkpoint, tiny_data_settings, images, tmp_path):
    """Asks, and gives what is printed."""
    settings = settings_file(tmp_path / "settings.yml", tiny_data_settings, name="mcan", layers=1)

    def asked(question: str, picture: str = "a.png", image: Path = images[0], photo: Path | None = None) -> str:
        console = Console(highlight=False, soft_wrap=True, record=True)
        answer.run(
            console,
            checkpoint,
            image=image,
            question=question,
            picture=photo,
            output=tmp_path / picture,
            settings=settings,
        )
        return console.export_text()

    return asked


def test_the_answer_is_that_of_the_split(said, checkpoint, tiny_data_settings, images):
    network, vocabulary, _ = load_trained(checkpoint)
    split = load_split(tiny_data_settings, tiny_data_settings.val, vocabulary)
    expected = by_question(network, split, lambda logits, targets: logits.sigmoid())
    for place, question in enumerate(read_questions(tiny_data_settings.val.questions)[:4]):
        lines = said(question["question"], image=images[question["image_id"] - 1]).splitlines()
        shown = [re.fullmatch(r" *([\d.]+) %  (.*)", line).groups() for line in lines if "%" in line]
        best = expected[place].topk(5)
        assert [text for _, text in shown] == [vocabulary.answers[index] for index in best.indices]
        assert [float(percent) for percent, _ in shown] == pytest.approx((100 * best.values).tolist(), abs=0.01)


def test_each_attention_over_the_regions_is_told_in_order(tiny_data):
    """Of a chain with attentions over words, which are none over regions: where queries say nothing, all regions are
    looked at alike; and regions in another order are looked at in that order."""
    blocks = ["self_attention", "guided_attention", "relational_self_attention", "feed_forward"]
    settings = EncoderDecoderSettings(encoder_blocks=1, decoder_blocks=4, relation_size=4)
    choices = {"encoder_block1": "self_attention"}
    choices |= {f"decoder_block{number}": name for number, name in enumerate(blocks, 1)}
    architecture = Architecture(space=tiny_space(settings), choices=choices).for_data(tiny_data.sizes)
    network, vocabulary = architecture.network().eval(), tiny_data.vocabulary
    regions, order = torch.randn(7, 12), torch.randperm(7)
    boxes = torch.rand(7, 4) + torch.tensor([0, 0, 1, 1])

    def looked(order) -> dict[str, torch.Tensor]:
        question = "Is the big dog brown, and the red house old?"
        reply = predict(network, vocabulary, regions[order], boxes[order], question, max_tokens=7)  # as many as regions
        assert [name for name, _ in reply.attentions] == ["SelfAttention", "RelationalSelfAttention"]
        assert all(shares.sum().item() == pytest.approx(1, abs=1e-5) for _, shares in reply.attentions)
        return dict(reply.attentions)

    first, second = looked(torch.arange(7)), looked(order)
    for name, shares in first.items():
        assert shares.std() > 1e-4
        torch.testing.assert_close(second[name], shares[order], atol=1e-5, rtol=1e-4)
    for module in network.modules():
        if type(module) is SelfAttention:
            module.attention.query.weight.data.zero_()
    torch.testing.assert_close(looked(order)["SelfAttention"], torch.full((7,), 1 / 7))
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("glimpses", [1, 3])
def test_where_it_looks_is_the_mean_of_the_glimpses(tiny_data, glimpses):
    space = tiny_space(MCANSettings(layers=1), glimpses=glimpses)
    vocabulary = tiny_data.vocabulary
    network = Architecture(space=space, choices={}).for_data(tiny_data.sizes).network().eval()
    weights = []
    network.flatten_image.mlp.register_forward_hook(lambda mlp, inputs, output: weights.append(output.softmax(1)))
    regions, boxes = torch.randn(7, 12), torch.rand(7, 4)
    reply = predict(network, vocabulary, regions, boxes, "Is the big dog brown?", max_tokens=14)
    assert reply.attention.shape == (7,) and reply.attention.sum().item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(reply.attention, weights[0][0].mean(-1))
    assert not network.flatten_image._forward_hooks


def test_a_question_of_no_words(said):
    for question in ("", " ?! ", "()"):
        assert "the question has no words: it is one unknown word to the network" in said(question)


def test_a_question_of_200_words(said):
    shown = said("is the dog big left " * 40)
    assert "the first 14 of 200 words are read; the last is 'big'" in shown and "unknown words" not in shown
    assert "are read" not in said("is the dog brown " * 3)


def test_unknown_words_are_named(said):
    shown = said("Is the 🐕 zebra's zebras [bold]dog[/] 100$ brown?")
    unknown = re.search("unknown words: (.*)", shown)[1].split(", ")
    assert "unknown words: �" in said("\udcff dog brown?")
    assert unknown == tokenise("🐕 zebras [bold]dog[/] 100$")
    assert "unknown words" not in said("Is the big dog brown?")


def test_the_picture(said, images, tmp_path):
    with np.load(images[0]) as file:
        boxes, size = file["bbox"], (int(file["image_w"]), int(file["image_h"]))
    for name in ("a.svg", "new folder/a.png"):
        shown = said("Is the $big$ 🐕 dog 日本 brown?", name)
        assert f"where it looked: {tmp_path / name}" in shown
    assert (tmp_path / "a.svg").read_text().count('id="patch_') >= 2 + len(boxes)
    Image.new("RGB", (3 * size[0], 3 * size[1]), "green").save(tmp_path / "photo.jpg")
    said("Is the big dog brown?", "b.png", photo=tmp_path / "photo.jpg")
    with Image.open(tmp_path / "b.png") as picture, Image.open(tmp_path / "new folder" / "a.png") as plain:
        assert count_green(picture) > 0.1 > 0 == count_green(plain)


def count_green(picture: Image.Image) -> float:
    red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
    return float(((green > red + 30) & (green > blue + 30)).mean())


def test_mistakes_are_one_line(said, images, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    Image.new("RGB", (50, 90)).save(tmp_path / "other.png")
    np.savez(tmp_path / "wide_1.npz", x=np.zeros((13, 2), np.float32), bbox=np.ones((2, 4)), image_w=9, image_h=9)
    (tmp_path / "cut_1.npz").write_bytes(images[0].read_bytes()[:200])
    for options, message in (
        ({"photo": tmp_path / "text.jpg"}, r"text\.jpg: cannot be read: not a whole picture"),
        ({"photo": tmp_path / "absent.jpg"}, r"absent\.jpg: cannot be read: No such file"),
        ({"photo": tmp_path / "other.png"}, r"other\.png: is 50 × 90, the image of the features 100 × 80"),
        ({"image": tmp_path / "wide_1.npz"}, "features are 13 wide"),
        ({"image": tmp_path / "cut_1.npz"}, r"cut_1\.npz: "),
        ({"image": tmp_path / "absent_1.npz"}, r"absent_1\.npz: cannot be read: No such file"),
        ({"image": tmp_path}, r": cannot be read: Is a directory"),
        ({"image": tmp_path / "text.jpg"}, r"not an \.npz of plain arrays: BadZipFile: File is not a zip file$"),
        ({"picture": "a.gif"}, r"a\.gif: a picture's name ends in one of \.png"),
    ):
        with pytest.raises(InputError, match=message) as refused:
            said("Is the big dog brown?", **options)
        assert "\n" not in str(refused.value)
