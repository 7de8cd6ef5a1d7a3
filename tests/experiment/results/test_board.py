"""What TensorBoard shows of a search: pictures that decode, at the steps of its epochs, also after an interruption."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiment.results.board import TOP, derived, heat_map, pictures
from experiment.results.drawing import svg
from experiment.results.drawing.raster import SHAPES, png
from model_space.architecture import Architecture
from model_space.encoders.recurrent import RecurrentSettings
from model_space.spaces import SPACES
from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import Killed, ignore, short_search
from tests.helpers.tiny import space_of, tiny_space
from trainer.callbacks.checkpoint import Checkpoints
from trainer.callbacks.curve import read_curve
from trainer.search import search

STACKED = StackedSettings(edges="one", cells=1, nodes=2)
TAGS = ["architecture/probabilities", "architecture/derived"]
LARGEST = 60_000
"""Bytes of an image at most."""


def decoded(content: bytes) -> np.ndarray:
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def events_of(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0}).Reload()


@pytest.fixture
def searched(tiny_data, tmp_path):
    """Searches in a folder of a name, with pictures, and gives what TensorBoard reads there."""
    space = space_of(tiny_data, STACKED)

    def run(name: str):
        search(tiny_data, space, short_search(architecture_lr=0.3), tmp_path / name, ignore, pictures(space))
        return events_of(tmp_path / name)

    return run


def test_each_epoch_has_its_pictures(searched, tmp_path):
    events = searched("whole")
    curve = read_curve(tmp_path / "whole")
    assert sorted(events.Tags()["images"]) == sorted(TAGS)
    steps = [event.step for event in events.Scalars("epoch/accuracy")]
    assert len(steps) == 3 and [event.step for event in events.Images(TAGS[0])] == steps
    new = [i for i, epoch in enumerate(curve) if i == 0 or epoch["choices"] != curve[i - 1]["choices"]]
    assert len(new) > 1 and [event.step for event in events.Images(TAGS[1])] == [steps[i] for i in new]
    for tag in TAGS:
        for event in events.Images(tag):
            picture = decoded(event.encoded_image_string)
            assert picture.shape == (event.height, event.width, 3) and picture.std() > 5
            assert len(event.encoded_image_string) < LARGEST


def test_a_resumed_search_doubles_no_step_and_loses_none(searched, monkeypatch):
    """It is killed after an epoch was written and before its checkpoint: that epoch comes again, and no other."""
    whole = searched("whole")
    write = Checkpoints.write

    def cut(self, trainer):
        if trainer.current_epoch == 1:
            raise Killed
        write(self, trainer)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "write", cut)
        with pytest.raises(Killed):
            searched("killed")
    resumed = searched("killed")
    assert resumed.Tags() == whole.Tags()
    for tag in TAGS:
        ours, theirs = resumed.Images(tag), whole.Images(tag)
        assert [event.step for event in ours] == [event.step for event in theirs]
        assert [event.encoded_image_string for event in ours] == [event.encoded_image_string for event in theirs]
    for tag in ("epoch/accuracy", "epoch/entropy"):
        ours, theirs = resumed.Scalars(tag), whole.Scalars(tag)
        assert [(event.step, event.value) for event in ours] == [(event.step, event.value) for event in theirs]
        assert len(ours) == 3


@pytest.mark.parametrize("error", [OSError("cannot open resource"), KeyError("image_node1")], ids=["font", "bug"])
def test_a_picture_that_cannot_be_drawn_is_no_reason_to_lose_a_search(tiny_data, tmp_path, capsys, error):
    def no_font(curve):
        raise error

    space = space_of(tiny_data, STACKED)
    search(tiny_data, space, short_search(), tmp_path, ignore, {"architecture/derived": no_font})
    assert len(read_curve(tmp_path)) == 3
    said = capsys.readouterr().err
    assert said.count(f"no more pictures for TensorBoard: {type(error).__name__}") == 1 and "figures" not in said


def epochs(*rows: dict[str, list[float]], of: int) -> list[dict]:
    """A curve whose choices have the candidates a, b and so on, with these probabilities."""
    return [
        {"epoch": i, "epochs": of, "probabilities": {k: dict(zip("abcdef", v)) for k, v in row.items()}}
        for i, row in enumerate(rows, start=1)
    ]


def test_the_darker_the_more_probable():
    curve = epochs({"x": [0.5, 0.5]}, {"x": [1.0, 0.0]}, of=4)
    picture = decoded(heat_map(curve))
    blue = picture[..., 2] - picture[..., 0]
    first, second = blue[69], blue[84]  # through the rows of the two candidates; epochs are 24 pixels from 215 on
    assert first[250] > 130 > first[225] == second[225] > 60 > 30 > second[250] > 5  # 100 %, 50 %, 0 %
    assert not blue[TOP:, 265:305].any()  # epochs that are to come
    assert decoded(heat_map(curve[:1])).shape == picture.shape


def test_a_choice_of_one_candidate_is_left_out():
    with_one = epochs({"x": [0.5, 0.5], "y": [1.0]}, of=1)
    without = epochs({"x": [0.5, 0.5]}, of=1)
    assert heat_map(with_one) == heat_map(without)


def test_many_choices_stand_side_by_side_and_stay_small():
    rng = np.random.default_rng(0)
    rows = [{f"image_node{i}_from0": rng.dirichlet(np.ones(5)).tolist() for i in range(40)} for _ in range(30)]
    content = heat_map(epochs(*rows, of=30))
    height, width, _ = decoded(content).shape
    assert height < 1500 and width > 1200 and len(content) < LARGEST


def test_only_a_changed_architecture_is_drawn():
    space = tiny_space(STACKED)
    one, other = ({"epoch": i, "choices": space.random_choices(i)} for i in (1, 2))
    assert one["choices"] != other["choices"]
    assert derived(space, [one]) and derived(space, [one, other])
    assert derived(space, [one, one]) is None


@pytest.mark.parametrize("name", sorted(SPACES))
def test_pixels_are_those_of_the_picture(name):
    space = tiny_space(SPACES[name](), RecurrentSettings(edges="all", nodes=4))
    architecture = Architecture(space=space, choices=space.random_choices(1))
    drawing = svg(architecture)
    picture = decoded(png(drawing))
    assert f'width="{picture.shape[1]}" height="{picture.shape[0]}"' in drawing
    assert 0.005 < (picture < 128).any(-1).mean() < 0.4  # neither empty nor covered
    from xml.etree import ElementTree

    tags = {element.tag.split("}")[1] for element in ElementTree.fromstring(drawing)}
    assert tags <= {*SHAPES, "title", "defs"}
