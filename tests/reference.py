"""The reference figures of tests/golden, and how their weights are called here."""

import json
import os
import re
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(os.environ.get("GOLDEN", Path(__file__).parent / "golden"))

# mcan-vqa's names → ours, in turn.
MCAN_NAMES = [
    (r"^(embedding|lstm)", r"question_encoder.\1"),
    (r"^img_feat_linear", "image_projection"),
    (r"attflat_img", "flatten_image"),
    (r"attflat_lang", "flatten_question"),
    (r"^proj_norm", "head_norm"),
    (r"^proj\.", "classifier."),
    (r"mhatt1?\.linear_", "self_attention.attention."),
    (r"mhatt2\.linear_", "guided_attention.attention."),
    (r"linear_merge", "merge"),
    (r"attention\.q\.", "attention.query."),
    (r"attention\.k\.", "attention.key."),
    (r"attention\.v\.", "attention.value."),
    (r"ffn\.mlp", "feed_forward.mlp"),
    (r"mlp\.fc\.linear", "mlp.0"),
    (r"mlp\.linear", "mlp.3"),
    (r"norm1", "self_attention.norm"),
    (r"(enc_list\.\d+)\.norm2", r"\1.feed_forward.norm"),
    (r"norm2", "guided_attention.norm"),
    (r"norm3", "feed_forward.norm"),
    (r"enc_list", "encoder"),
    (r"dec_list", "decoder"),
    (r"a_2$", "weight"),
    (r"b_2$", "bias"),
]


def load(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays of a reference file and its configuration."""
    with np.load(GOLDEN / name, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(str(arrays["config"]))


def state(arrays: dict[str, np.ndarray], names: list[tuple[str, str]]) -> dict[str, torch.Tensor]:
    """The weights of a reference file under our names."""
    renamed = {}
    for key, value in arrays.items():
        if key.startswith("state/"):
            name = key.removeprefix("state/")
            for old, new in names:
                name = re.sub(old, new, name)
            renamed[name] = torch.from_numpy(value)
    return renamed
