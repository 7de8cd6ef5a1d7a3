"""The health of a search: what each figure says, and what is said in words."""

import pytest
import torch
from torch import nn

from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import ignore, search_settings
from tests.helpers.tiny import space_of
from trainer.callbacks.curve import read_curve
from trainer.search import search
from trainer.supernet.health import GradientSignal, diagnosis, health, unmoved

OPERATIONS = ("none", "identity", "feed_forward", "self_attention", "guided_attention")
MOVED = {
    "image_node1_input": {"0": 1.0},
    "image_node1_operation": dict(zip(OPERATIONS, (0.1, 0.2, 0.15, 0.15, 0.4))),
    "image_node2_input": {"0": 0.25, "1": 0.75},
}
IDLE = MOVED | {"image_node2_operation": dict(zip(OPERATIONS, (0.0, 0.6, 0.2, 0.1, 0.1)))}


def epoch(number: int, probabilities=MOVED, epochs: int = 9, **figures):
    return {"epoch": number, "epochs": epochs, "probabilities": probabilities} | health(probabilities, None) | figures


def test_entropy_is_one_where_nothing_is_decided_and_zero_where_all_is():
    told = health({"a": {"x": 0.5, "y": 0.5}, "b": {"0": 1.0}, "c": {"x": 1.0, "y": 0.0}}, None)
    assert told == {"entropy": pytest.approx(0.5), "entropy_by_label": {"a": pytest.approx(1), "c": 0}}


def test_idle_operations_and_agreement_are_shares():
    assert health(MOVED, None)["idle"] == 0 and health(IDLE, None)["idle"] == 0.5
    assert "agreement" not in health(MOVED, None) and health(MOVED, MOVED)["agreement"] == 1
    turned = MOVED | {"image_node2_input": {"0": 0.6, "1": 0.4}}
    assert health(turned, MOVED)["agreement"] == pytest.approx(2 / 3)


def test_what_is_wrong_is_said_in_words():
    start = {
        label: {name: 1 / len(each) + 1e-4 * (-1) ** i for i, name in enumerate(each)} for label, each in MOVED.items()
    }
    assert diagnosis([epoch(1, start)]).startswith("the search did not move the architecture parameters")
    assert "2 choices" in unmoved(start) and unmoved(MOVED) is None and unmoved({"a": {"0": 1.0}}) is None
    assert diagnosis([epoch(1), epoch(2)]) is None
    assert "has collapsed" in diagnosis([epoch(1), epoch(2, IDLE)])
    assert "50%" in diagnosis([epoch(1, IDLE)])
    early = [epoch(1), epoch(2, entropy=0.05), epoch(3, entropy=0.01)]
    assert "decided after epoch 2 of 9" in diagnosis(early)
    assert diagnosis([epoch(1), epoch(8, entropy=0.05)]) is None


class Module:
    """Has two architecture parameters, which one optimiser moves, and a weight, which another one does."""

    def __init__(self):
        self.alpha = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))]
        self.optimizer = torch.optim.SGD(self.alpha)
        self.weights = torch.optim.SGD([nn.Parameter(torch.zeros(1))])

    def arch_parameters(self):
        return self.alpha


def test_signal_to_noise_is_that_of_the_architectures_gradient():
    module, signal = Module(), GradientSignal()
    signal.on_train_start(None, module)
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(200, 5, generator=generator) + torch.tensor([1.0, 0, 0, -1.0, 0])
    for i, gradient in enumerate(gradients):
        module.alpha[0].grad, module.alpha[1].grad = gradient.split([2, 3])
        signal.on_before_optimizer_step(None, module, module.optimizer)
        signal.on_before_optimizer_step(None, module, module.weights)
        if i == 99:  # interrupted and resumed
            state, signal = signal.state_dict(), GradientSignal()
            signal.load_state_dict(state)
            signal.on_train_start(None, module)
    mean = gradients.mean(0)
    expected = mean.norm() / (gradients - mean).square().sum(1).mean().sqrt()
    assert signal.measured() == {"signal_to_noise": pytest.approx(expected.item(), rel=1e-4)}
    assert signal.measured() == {}  # begun anew
    module.alpha[0].grad = module.alpha[1].grad = None
    signal.on_before_optimizer_step(None, module, module.optimizer)
    assert signal.measured() == {}


@pytest.mark.parametrize(
    "strategy", ["snas", "single_path", "darts", "gumbel_darts", "progressive_shrinking", "random_one_shot"]
)
def test_each_epoch_of_a_search_tells_its_health(strategy, tiny_data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = search_settings(strategy, epochs=2, batch_size=16, lr=1e-3, architecture_lr=1e-2)
    space = space_of(tiny_data, StackedSettings(edges="one", cells=1, nodes=2))
    search(tiny_data, space, settings, tmp_path, ignore)
    first, second = read_curve(tmp_path)
    assert {"entropy", "entropy_by_label", "idle"} <= first.keys() and "agreement" not in first
    assert 0 <= second["agreement"] <= 1
    assert set(second["entropy_by_label"]) == {label for label, each in space.candidates().items() if len(each) > 1}
    has_gradient = strategy != "random_one_shot"
    assert (second.get("signal_to_noise", 0.0) > 0) == has_gradient
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = {"epoch/accuracy", "epoch/idle", "epoch/entropy", "epoch/entropy image_node2_input", "train/loss"}
    assert scalars <= set(board.Tags()["scalars"])
    assert [event.value for event in board.Scalars("epoch/idle")] == pytest.approx([first["idle"], second["idle"]])
