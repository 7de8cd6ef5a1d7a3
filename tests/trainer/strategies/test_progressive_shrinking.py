"""Progressive shrinking: what a choice gives while its candidates become fewer."""

import pytest
import torch

from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.supernets import supernet_of
from trainer.module import VQAModule
from trainer.settings import LoopSettings
from trainer.strategies.progressive_shrinking import (
    ProgressiveShrinkingModule,
    ShrinkingInput,
    ShrinkingLayer,
    with_weights,
)
from trainer.supernet.choices import mixed_modules, weighting


@pytest.mark.parametrize("kept", [None, [0], [1, 3]])
def test_a_choice_is_the_mean_of_the_candidates_that_are_kept(kept):
    supernet = supernet_of(PairedSettings(layers=1, memory_slots=2), "progressive_shrinking")
    (layer,) = mixed_modules(supernet)
    assert isinstance(layer, ShrinkingLayer)
    weighting(layer).kept = kept
    image, question = torch.randn(2, 5, 16, dtype=torch.float64), torch.randn(2, 4, 16, dtype=torch.float64)
    masks = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)
    inputs = (image, masks[0], question, masks[1])
    outputs = [layer[layer.names[k]](*inputs) for k in (range(len(layer.names)) if kept is None else kept)]
    for stream, given in enumerate(layer(*inputs)):
        torch.testing.assert_close(given, torch.stack([output[stream] for output in outputs]).mean(0))


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


def test_an_input_is_the_mean_of_those_that_are_kept_and_a_label_keeps_the_same_in_all_cells():
    supernet = supernet_of(StackedSettings(edges="one", cells=2, nodes=3), "progressive_shrinking")
    inputs = [module for module in mixed_modules(supernet) if isinstance(module, ShrinkingInput)]
    third = [module for module in inputs if module.label == "image_node3_input"]
    assert len(third) == 2
    weighting(third[0]).kept = [0, 2]
    values = torch.randn(3, 4, dtype=torch.float64)
    for module in third:
        torch.testing.assert_close(module(tuple(values)), values[[0, 2]].mean(0))
        torch.testing.assert_close(weighting(module)(torch.zeros(3)), torch.tensor([0.5, 0.0, 0.5]))


def test_candidates_become_fewer_and_in_the_end_each_step_trains_one_path():
    settings = LoopSettings(epochs=10)
    module = ProgressiveShrinkingModule(VQAModule(settings, steps_per_epoch=4), whole=0.5, shrinking=0.25)
    by_epoch = [[module.keep_probability(epoch, step) for step in range(4)] for epoch in range(10)]
    assert by_epoch[:5] == [[1.0] * 4] * 5
    assert by_epoch[5] == pytest.approx([1.0, 0.9, 0.8, 0.7])
    assert by_epoch[7] == pytest.approx([0.2, 0.1, 0.0, 0.0]) and by_epoch[8:] == [[0.0] * 4] * 2
    at_once = ProgressiveShrinkingModule(VQAModule(settings, steps_per_epoch=4), whole=0.5, shrinking=0.0)
    assert [at_once.keep_probability(epoch, 0) for epoch in (4, 5)] == [1.0, 0.0]
