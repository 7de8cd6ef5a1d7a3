"""Checkpoints that mcan-vqa (https://github.com/MILVLG/mcan-vqa) and mmnas (https://github.com/MILVLG/mmnas) publish.

Their weights become those of the networks here. Both write with ``torch.save`` a dictionary that has the weights under
``state_dict``, beside the state of the optimiser and a number; only the weights are read. In a checkpoint that was
trained on several GPUs, every name begins with ``module.``.
"""

import re
from typing import Any

from torch import Tensor

from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.network import Network
from model_space.sizes import DataSizes

Names = list[tuple[str, str]]
"""Regular expressions and what replaces their matches, one after the other: names of the reference → names here."""

PART_NAMES: Names = [
    (r"^(embedding|lstm)\.", r"question_encoder.\1."),
    (r"^proj_norm", "head_norm"),
    (r"^proj\.", "classifier."),
    (r"mhatt\.linear_q\.", "attention.query."),
    (r"mhatt\.linear_k\.", "attention.key."),
    (r"mhatt\.linear_v\.", "attention.value."),
    (r"mhatt\.linear_merge\.", "attention.merge."),
    (r"linear_merge", "merge"),
    (r"mlp\.fc\.linear", "mlp.0"),
    (r"mlp\.linear", "mlp.3"),
    (r"a_2$", "weight"),
    (r"b_2$", "bias"),
]
"""Names that mcan-vqa and the projects that grew out of it have in common."""

MCAN_NAMES: Names = [
    (r"^img_feat_linear", "image_projection"),
    (r"attflat_img", "flatten_image"),
    (r"attflat_lang", "flatten_question"),
    (r"mhatt1?\.", "self_attention.mhatt."),
    (r"mhatt2\.", "guided_attention.mhatt."),
    (r"ffn\.mlp", "feed_forward.mlp"),
    (r"norm1", "self_attention.norm"),
    (r"(enc_list\.\d+)\.norm2", r"\1.feed_forward.norm"),
    (r"norm2", "guided_attention.norm"),
    (r"norm3", "feed_forward.norm"),
    (r"enc_list", "encoder"),
    (r"dec_list", "decoder"),
    *PART_NAMES,
]
"""Names of mcan-vqa."""

MMNAS_NAMES: Names = [
    (r"^imgfeat_linear", "image_projection"),
    (r"^linear_y_rel", "backbone.relation.0"),
    (r"^attflat_x", "flatten_question"),
    (r"^attflat_y", "flatten_image"),
    (r"^backnone\.cells_enc\.(\d+)\.dag\.(\d+)\.0\.", r"backbone.encoder.\1.\2."),
    (r"^backnone\.cells_dec\.(\d+)\.dag\.(\d+)\.0\.", r"backbone.decoder.\1.\2."),
    (r"mhatt\.linear_r\.", "relation."),
    (r"\.ln\.", ".norm."),
    *PART_NAMES,
]
"""Names of mmnas."""

NAMES = {"mcan": MCAN_NAMES, "encoder_decoder": MMNAS_NAMES}
"""The names of the reference by the space of its networks."""


def renamed(name: str, names: Names) -> str:
    """Returns the name here of a weight of a reference."""
    for old, new in names:
        name = re.sub(old, new, name)
    return name


def is_published(content: Any) -> bool:
    """Returns whether the content of a checkpoint is of this form; Lightning's own checkpoints hold its version."""
    return isinstance(content, dict) and "state_dict" in content and "pytorch-lightning_version" not in content


def data_sizes(content: dict[str, Any], where: str) -> DataSizes:
    """Returns the sizes of the data that the network of a published checkpoint was made for.

    Args:
        content: What the file holds.
        where: Names the file in an error.

    Raises:
        InputError: The file has no layer from which a size can be read.
    """
    state = content["state_dict"] if isinstance(content["state_dict"], dict) else {}
    weights = {str(name).removeprefix("module."): weight for name, weight in state.items()}

    def size(of: str, dimension: int, *names: str) -> int:
        found = [weights[name] for name in names if isinstance(weights.get(name), Tensor) and weights[name].ndim == 2]
        if not found:
            raise InputError(f"{where}: 'state_dict' has no weight of the {of} ({' or '.join(names)})")
        return found[0].size(dimension)

    return DataSizes(
        feature_size=size("features", 1, "img_feat_linear.weight", "imgfeat_linear.weight"),
        vocabulary_size=size("words", 0, "embedding.weight"),
        answers=size("answers", 0, "proj.weight"),
    )


def published_network(content: dict[str, Any], architecture: Architecture, where: str) -> Network:
    """Returns the network of an architecture with the weights of a published checkpoint.

    Args:
        content: What the file holds.
        architecture: The architecture of the network, for data of the sizes that :func:`data_sizes` returns.
        where: Names the file in an error.

    Raises:
        InputError: Nobody publishes networks of this space, or the weights are not those of this architecture. The
            message has the first three names that do not match.
    """
    space = architecture.space.backbone.name
    if space not in NAMES:
        raise InputError(f"{where}: published checkpoints are of the spaces {', '.join(NAMES)}, not of '{space}'")
    state = content["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{where}: 'state_dict' does not hold weights")
    network = architecture.network()
    expected = network.state_dict()
    found: dict[str, Tensor] = {}
    other_shape, unexpected = [], []
    for name, weight in state.items():
        ours = renamed(str(name).removeprefix("module."), NAMES[space])
        if ours not in expected or ours in found:
            unexpected.append(f"unexpected {name}")
        elif weight.shape != expected[ours].shape:
            other_shape.append(f"{name} is {tuple(weight.shape)}, expected {tuple(expected[ours].shape)}")
        found[ours] = weight
    misfits = [*other_shape, *unexpected, *(f"missing {name}" for name in expected if name not in found)]
    if misfits:
        raise InputError(
            f"{where}: does not fit the network of the settings ({len(misfits)} of its names do not): "
            + "; ".join(misfits[:3])
        )
    network.load_state_dict(found)
    return network
