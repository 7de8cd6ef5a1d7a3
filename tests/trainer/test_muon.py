"""Muon: equal to torch's, within what bfloat16 rounds; what it moves, and that it goes on where it was."""

import copy
import io

import pytest
import torch
from torch import nn

from model_space.architecture import Architecture
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from tests.helpers.tiny import tiny_space
from trainer.module import VQAModule, hidden_matrices
from trainer.muon import Muon, orthogonal
from trainer.settings import LoopSettings

OPTIONS = {"lr": 0.01, "betas": (0.9, 0.98), "eps": 1e-9, "fused": True}


def parameters() -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Some weights and some matrices of several shapes, at random."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(16, 16), (40, 16), (16, 40), (16, 16), (40, 16)]
    matrices = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    return [nn.Parameter(torch.randn(size, generator=generator)) for size in (5, 7)], matrices


def give_gradients(parameters: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for each in parameters:
        each.grad = torch.randn(each.shape, generator=generator)


def test_steps_are_those_of_torch_but_for_its_bfloat16_and_of_adam():
    (weights, matrices), (adams, torchs) = parameters(), parameters()
    ours = Muon(weights, matrices, matrix_lr=0.05, momentum=0.8, **OPTIONS)
    adam = torch.optim.Adam(adams, **OPTIONS)
    muon = torch.optim.Muon(torchs, lr=0.05, weight_decay=0.0, momentum=0.8, adjust_lr_fn="match_rms_adamw")
    before = [each.detach().clone() for each in matrices]
    for seed in range(4):
        for pair in zip([*weights, *matrices], [*adams, *torchs], strict=True):
            for each in pair:
                give_gradients([each], seed)
        for optimizer in (ours, adam, muon):
            optimizer.step()
    for mine, theirs in zip(weights, adams, strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs, start in zip(matrices, torchs, before, strict=True):
        assert (mine - theirs).norm() < 0.02 * (mine - start).norm()


@pytest.mark.parametrize("shape", [(24, 24), (16, 50), (50, 16)])
def test_a_direction_has_singular_values_near_1_and_the_singular_vectors_of_the_gradient(shape):
    generator = torch.Generator().manual_seed(1)
    matrices = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    found = orthogonal(matrices)
    for matrix, direction in zip(matrices, found, strict=True):
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        inner = left.T @ direction @ right.T
        values = inner.diagonal()
        assert values.min() > 0.6 and values.max() < 1.3
        assert (inner - values.diag()).abs().max() < 1e-8
    torch.testing.assert_close(orthogonal(1e4 * matrices), found)  # the size of a gradient is nothing to it


def test_a_matrix_without_a_gradient_stays_where_it_is():
    weights, matrices = parameters()
    optimizer = Muon(weights, matrices, matrix_lr=0.05, momentum=0.8, **OPTIONS)
    give_gradients([*weights, *matrices], 0)
    optimizer.step()
    before = [each.detach().clone() for each in matrices]
    matrices[0].grad = None
    optimizer.step()
    assert [torch.equal(*pair) for pair in zip(matrices, before, strict=True)] == [True] + [False] * 4


def test_restored_it_goes_on_as_if_nothing_had_been():
    weights, matrices = parameters()
    optimizer = Muon(weights, matrices, matrix_lr=0.05, momentum=0.8, **OPTIONS)
    for seed in range(3):
        give_gradients([*weights, *matrices], seed)
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    copies = [[copy.deepcopy(each) for each in group] for group in (weights, matrices)]
    again = Muon(*copies, matrix_lr=0.5, momentum=0.1, **OPTIONS)
    again.load_state_dict(torch.load(file, weights_only=True))
    for seed in range(3, 6):
        for group, other in ((weights, optimizer), (copies[0], again)):
            give_gradients([*group, *(matrices if group is weights else copies[1])], seed)
            other.step()
    for one, two in zip([*weights, *matrices], [*copies[0], *copies[1]], strict=True):
        assert torch.equal(one, two)


def module_of(**settings) -> VQAModule:
    space = tiny_space(EncoderDecoderSettings(encoder_blocks=2, decoder_blocks=2), hidden=32, heads=2)
    torch.manual_seed(0)
    module = VQAModule(LoopSettings(**settings), steps_per_epoch=10)
    module.set_model(Architecture(space=space, choices=space.random_choices(0)).network())
    return module


def test_muon_moves_the_matrices_of_hidden_layers_and_adam_all_else():
    module = module_of(lr=1e-3, matrix_lr=5e-3, matrix_momentum=0.8)
    names = {id(each): name for name, each in module.model.named_parameters()}
    others, matrices = module.configure_optimizers()["optimizer"].param_groups
    moved = {names[id(each)] for each in matrices["params"]}
    assert {id(each) for each in matrices["params"]} == {id(each) for each in hidden_matrices(module.model)}
    assert {"question_encoder.lstm.weight_hh_l0", "flatten_image.merge.weight"} < moved
    assert not {"question_encoder.embedding.weight", "classifier.weight", "image_projection.bias"} & moved
    assert all(min(each.shape) >= 16 for each in matrices["params"])
    assert len(others["params"]) + len(matrices["params"]) == len(names)
    assert (others["initial_lr"], matrices["initial_lr"], matrices["momentum"]) == (1e-3, 5e-3, 0.8)
    only = module_of(lr=1e-3).configure_optimizers()["optimizer"]
    assert type(only) is torch.optim.Adam and len(only.param_groups) == 1
