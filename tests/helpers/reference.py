"""The reference figures of tests/golden, and their weights under the names here."""

import json
import re
from pathlib import Path

import numpy as np
import torch

from model_space.architecture import Architecture, Space
from model_space.published import mmnas
from model_space.published.checkpoints import PART_NAMES, renamed
from model_space.sizes import DataSizes, NetworkSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from tests.helpers.paths import GOLDEN


def edge(match: re.Match) -> str:
    """NAS-VQA's search counts the edges of a cell: to node 1, to node 2, and so on, each from node 0 on."""
    number, stream = int(match[1]), {"i": "image", "q": "question"}[match[2]]
    node = next(n for n in range(number + 1) if (n + 1) * (n + 2) // 2 > number)
    return f"operations.{stream}_node{node + 1}.{number - node * (node + 1) // 2}"


def node(match: re.Match) -> str:
    """NAS-VQA's training counts the nodes of a cell from 0."""
    return f"operations.{ {'i': 'image', 'q': 'question'}[match[2]] }_node{int(match[1]) + 1}"


# NAS-VQA's names → ours, in turn.
NAS_VQA_NAMES = [
    (r"^(rnn|lstm)\.rnns\.0\._W0", "question_encoder.recurrent.weight0"),
    (r"^(rnn|lstm)\.rnns\.0\._Ws", "question_encoder.recurrent.weights"),
    (r"^img_feat_linear", "image_projection"),
    (r"^attflat_img", "flatten_image"),
    (r"^attflat_lang", "flatten_question"),
    (r"^backbone\._cells", "backbone.cells"),
    (r"_preproc(\d)\.0\.ff", r"before.image.\1"),
    (r"_preproc(\d)\.1\.ff", r"before.question.\1"),
    (r"_attn_decoders\.0\.ff", "after.image"),
    (r"_attn_decoders\.1\.ff", "after.question"),
    (r"_c_mops\.(\d+)\._([iq])_ops\.\d+", edge),
    (r"_steps\.(\d+)\._([iq])_op\._(ff|sa|ga)", node),
    (r"\._ff\.", ".feed_forward."),
    (r"\._sa\.", ".self_attention."),
    (r"\._ga\.", ".guided_attention."),
    *PART_NAMES,
]


def load(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays of a reference file and its configuration."""
    with np.load(GOLDEN / name, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(str(arrays["config"]))


def state(arrays: dict[str, np.ndarray], names: list[tuple], kind: str = "state") -> dict[str, torch.Tensor]:
    """The weights of a reference file under our names, or another kind of arrays that are called like them."""
    weights = {}
    for key, value in arrays.items():
        if key.startswith(f"{kind}/"):
            weights[renamed(key.removeprefix(f"{kind}/"), names)] = torch.from_numpy(value)
    return weights


def data_sizes(arrays: dict[str, np.ndarray]) -> DataSizes:
    return DataSizes(
        feature_size=arrays["image"].shape[-1],
        vocabulary_size=len(arrays["state/embedding.weight"]),
        answers=len(arrays["state/proj.weight"]),
    )


def network_settings(config: dict, **more) -> NetworkSettings:
    """Of mcan-vqa's configuration, which NAS-VQA shares."""
    return NetworkSettings(
        hidden=config["HIDDEN_SIZE"],
        heads=config["MULTI_HEAD"],
        feed_forward_size=config["FF_SIZE"],
        embedding_dim=config["WORD_EMBED_SIZE"],
        flat_mlp_size=config["FLAT_MLP_SIZE"],
        flat_out_size=config["FLAT_OUT_SIZE"],
        glimpses=config["FLAT_GLIMPSES"],
        dropout=config["DROPOUT_R"],
        **more,
    )


def mcan_like(arrays, config) -> Architecture:
    space = MCANSettings(layers=config["LAYER"])
    data, network = data_sizes(arrays), network_settings(config)
    return Architecture(space=Space(backbone=space, network=network, data=data), choices={})


def mmnas_like(arrays, config) -> Architecture:
    genotype = json.dumps(config["GENOTYPE"])
    head_width = int((re.findall(r"_att_(\d+)", genotype) or [config["HSIZE"]])[0])
    network = NetworkSettings(
        hidden=config["HSIZE"],
        heads=config["HSIZE"] // head_width,
        embedding_dim=config["WORD_EMBED_SIZE"],
        flat_mlp_size=config["ATTFLAT_MLP_SIZE"],
        flat_out_size=config["ATTFLAT_OUT_SIZE"],
        glimpses=config["ATTFLAT_GLIMPSES"],
        dropout=config["DROPOUT_R"],
    )
    backbone = EncoderDecoderSettings(cells=config["LAYERS"], relation_size=config["REL_SIZE"])
    space = Space(backbone=backbone, network=network, data=data_sizes(arrays))
    return mmnas.read(genotype, "mmnas.npz", space)


def weights_of(arrays) -> dict[str, torch.Tensor]:
    return {k.removeprefix("state/"): torch.from_numpy(v).float() for k, v in arrays.items() if k.startswith("state/")}


def save_published(path: Path, weights: dict, prefix: str = "") -> Path:
    """Saves a checkpoint as mcan-vqa and mmnas do: weights, optimiser, a number."""
    state = {prefix + name: weight for name, weight in weights.items()}
    torch.save({"state_dict": state, "optimizer": {"state": {}, "param_groups": []}, "lr_base": 1e-4}, path)
    return path


def names_at(layers: int, arrays) -> list[str]:
    """Returns mcan-vqa's names of the weights of a network of so many layers, from those of the reference file."""
    first = [name for name in weights_of(arrays) if "_list." not in name or "_list.0." in name]
    deeper = [name.replace(".0.", f".{i}.", 1) for name in first if "_list.0." in name for i in range(1, layers)]
    return first + deeper
