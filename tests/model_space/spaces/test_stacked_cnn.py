"""The cnn graph of the space ``stacked``: what feeds what, and its whole life."""

import pytest
import torch

from model_space.architecture import Architecture
from model_space.spaces.stacked import StackedSettings
from tests.helpers.life import searched, trained_and_evaluated
from tests.helpers.tiny import tiny_space
from trainer.strategies import STRATEGIES


def cell_of(choices: dict, edges: str, nodes: int):
    space = tiny_space(StackedSettings(graph="cnn", edges=edges, cells=1, nodes=nodes))
    every = {label: "none" if "none" in values else values[0] for label, values in space.candidates().items()}
    assert choices.keys() <= every.keys()
    return Architecture(space=space, choices=every | choices).network().double().eval().backbone.cells[0]


def inputs() -> tuple:
    before_last, last = ((torch.randn(2, 4, 16), torch.randn(2, 3, 16)) for _ in range(2))
    masks = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    return tuple(x.double() for x in before_last), tuple(x.double() for x in last), masks


def test_a_node_keeps_two_edges_by_their_positions():
    """Positions: 0 is the cell before the last, 1 the last cell, 2 the first node."""
    choices = {
        "image_node1_inputs": "0,1",
        "image_node1_operation1": "identity",
        "image_node1_operation2": "feed_forward",
        "image_node2_inputs": "1,2",
        "image_node2_operation1": "identity",
        "image_node2_operation2": "identity",
    }
    cell = cell_of(choices, "one", nodes=2)
    before_last, last, masks = inputs()
    image, question = cell(before_last, last, masks)
    first, second = (cell.before["image"][i](state[0]) for i, state in enumerate((before_last, last)))
    node1 = first + cell.operations["image_node1"][1](second)
    node2 = second + node1
    torch.testing.assert_close(image, (node1 + node2) / 2)
    assert not question.any()  # `none` on all its edges


def test_every_edge_of_a_node_is_summed_and_normalised():
    choices = {"image_node1_from0": "identity", "image_node1_from1": "identity", "image_node2_from2": "identity"}
    cell = cell_of(choices, "all", nodes=2)
    before_last, last, masks = inputs()
    image, _ = cell(before_last, last, masks)
    node1 = cell.norm(cell.before["image"][0](before_last[0]) + cell.before["image"][1](last[0]))
    torch.testing.assert_close(image, (node1 + cell.norm(node1)) / 2)


def test_labels():
    one = tiny_space(StackedSettings(graph="cnn", edges="one", nodes=3)).candidates()
    assert one["question_node2_inputs"] == ["0,1", "0,2", "1,2"]
    assert len(one["image_node3_inputs"]) == 6 and len(one) == 2 * 3 * 3
    every = tiny_space(StackedSettings(graph="cnn", edges="all", nodes=3)).candidates()
    assert len(every) == 2 * (2 + 3 + 4)


@pytest.mark.parametrize("edges", ["all", "one"])
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_whole_life(tiny_data, tiny_data_settings, tmp_path, strategy, edges):
    space = StackedSettings(graph="cnn", edges=edges, cells=1, nodes=2)
    architecture = searched(tiny_data, space, strategy, tmp_path / "search")
    assert 0 <= trained_and_evaluated(tiny_data, tiny_data_settings, architecture, tmp_path) <= 100
