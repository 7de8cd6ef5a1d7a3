"""Networks that the memory of this machine cannot hold are refused before they are built."""

import psutil
import torch

from model_space.errors import InputError

TRAINED = 16
"""The bytes of a weight that is trained: its own, its gradient's, and those of Adam's two means, in float32."""
GB = 1e9


def refuse_too_large(weights: int, what: str) -> None:
    """Refuses a network whose weights alone do not fit into the memory, of the GPU if there is one.

    Args:
        weights: The number of weights.
        what: What has them, for the error message, such as ``"the network"``.

    Raises:
        InputError: It does not fit.
    """
    there = all_memory()
    if weights * TRAINED > there:
        raise InputError(
            f"{what} has {weights:,} weights, which take {weights * TRAINED / GB:,.0f} GB while they are trained; "
            f"there are {there / GB:,.0f} GB: expected a smaller network.hidden, or fewer cells, blocks or nodes"
        )


def all_memory() -> int:
    """Returns the bytes that a run can have at most: all of the GPU's, or of the host's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    return psutil.virtual_memory().total
