"""Progressive shrinking: what a choice gives while its candidates become fewer."""

import math

import pytest
import torch

from model_space.encoders.recurrent import RecurrentSettings
from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import search_settings
from tests.helpers.supernets import supernet_of
from tests.helpers.tiny import space_of, tiny_space
from trainer.module import VQAModule
from trainer.search import run
from trainer.settings import LoopSettings
from trainer.strategies.progressive_shrinking import (
    ProgressiveShrinking,
    ProgressiveShrinkingModule,
    ShrinkingInput,
    ShrinkingLayer,
    with_weights,
)
from trainer.supernet.choices import architecture_parameter, distribution, mixed_modules, weighting
from trainer.supernet.recurrent import read_mixed


@pytest.mark.parametrize("kept", [None, [0], [1, 3]])
def test_a_choice_is_the_weighted_mean_of_the_candidates_that_are_kept(kept):
    supernet = supernet_of(PairedSettings(layers=1, memory_slots=2), "progressive_shrinking")
    (layer,) = mixed_modules(supernet)
    assert isinstance(layer, ShrinkingLayer)
    weighting(layer).kept = kept
    image, question = torch.randn(2, 5, 16, dtype=torch.float64), torch.randn(2, 4, 16, dtype=torch.float64)
    masks = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)
    inputs = (image, masks[0], question, masks[1])
    kept = list(range(len(layer.names))) if kept is None else kept
    parameter = architecture_parameter(layer)
    torch.nn.init.normal_(parameter)
    weights = parameter[kept].softmax(0).tolist()
    outputs = [layer[layer.names[k]](*inputs) for k in kept]
    for stream, given in enumerate(layer(*inputs)):
        expected = sum(weight * output[stream] for weight, output in zip(weights, outputs, strict=True))
        torch.testing.assert_close(given, expected)


def test_the_weights_of_the_mean_learn_until_a_step_trains_one_path(tiny_data):
    space = space_of(tiny_data, StackedSettings(edges="one", cells=1, nodes=2))
    settings = search_settings(
        "progressive_shrinking",
        epochs=1,
        steps_per_epoch=3,
        batch_size=16,
        architecture_lr=0.1,
        whole=1.0,
        shrinking=0.0,
    )
    learned = distribution(run(tiny_data, space, settings, [], None).model)
    for label, each in learned.items():
        if "operation" in label:
            assert len({round(probability, 3) for probability in each.values()}) > 2
    paths = settings.model_copy(update={"whole": 0.0})
    unmoved = distribution(run(tiny_data, space, paths, [], None).model)
    for each in unmoved.values():
        assert list(each.values()) == pytest.approx([1 / len(each)] * len(each), abs=1e-3)


@pytest.mark.parametrize("kept", [None, [1], [0, 3]])
def test_the_recurrent_encoder_takes_the_same_weights(kept):
    encoder = RecurrentSettings(edges="one", nodes=2)
    space = tiny_space(StackedSettings(edges="one", cells=1, nodes=1)).model_copy(update={"encoder": encoder})
    supernet = ProgressiveShrinking(whole=1.0, shrinking=0.0, architecture_lr=0.1).mutate_model(space.build())
    module = next(each for each in mixed_modules(supernet) if each.label.endswith("activation"))
    parameter = torch.nn.init.normal_(architecture_parameter(module))
    weighting(module).kept = kept
    weights, _ = read_mixed(module, torch.eye(len(parameter)), time_steps=3)
    positions = list(range(len(parameter))) if kept is None else kept
    expected = torch.zeros(len(parameter)).index_copy(0, torch.tensor(positions), parameter[positions].softmax(0))
    torch.testing.assert_close(weights.expand(3, -1), expected.expand(3, -1))


def test_the_whole_supernet_leaves_out_what_has_no_weights():
    supernet = supernet_of(StackedSettings(edges="one", cells=1, nodes=2), "progressive_shrinking")
    for module in mixed_modules(supernet):
        learning = with_weights(module)
        if isinstance(module, ShrinkingInput):
            assert learning is None
            continue
        assert [module.names[k] for k in learning] == ["feed_forward", "self_attention", "guided_attention"]
        weighting(module).whole = learning
        assert weighting(module).positions(5) == learning
        weighting(module).kept = [0, 1]
        assert weighting(module).positions(5) == [0, 1]


def test_an_input_is_the_weighted_mean_of_those_that_are_kept_and_a_label_keeps_the_same_in_all_cells():
    supernet = supernet_of(StackedSettings(edges="one", cells=2, nodes=3), "progressive_shrinking")
    inputs = [module for module in mixed_modules(supernet) if isinstance(module, ShrinkingInput)]
    third = [module for module in inputs if module.label == "image_node3_input"]
    assert len(third) == 2
    weighting(third[0]).kept = [0, 2]
    values = torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        architecture_parameter(third[0]).copy_(torch.tensor([0.0, 7.0, 1.0]))
    lower, higher = 1 / (1 + math.e), math.e / (1 + math.e)
    for module in third:
        torch.testing.assert_close(module(tuple(values)), lower * values[0] + higher * values[2])
        weights = weighting(module)(architecture_parameter(module))
        assert weights.tolist() == pytest.approx([lower, 0.0, higher])


def test_candidates_become_fewer_and_in_the_end_each_step_trains_one_path():
    settings = LoopSettings(epochs=10)
    module = ProgressiveShrinkingModule(VQAModule(settings, steps_per_epoch=4), whole=0.5, shrinking=0.25)
    by_epoch = [[module.keep_probability(epoch, step) for step in range(4)] for epoch in range(10)]
    assert by_epoch[:5] == [[1.0] * 4] * 5
    assert by_epoch[5] == pytest.approx([1.0, 0.9, 0.8, 0.7])
    assert by_epoch[7] == pytest.approx([0.2, 0.1, 0.0, 0.0]) and by_epoch[8:] == [[0.0] * 4] * 2
    at_once = ProgressiveShrinkingModule(VQAModule(settings, steps_per_epoch=4), whole=0.5, shrinking=0.0)
    assert [at_once.keep_probability(epoch, 0) for epoch in (4, 5)] == [1.0, 0.0]
