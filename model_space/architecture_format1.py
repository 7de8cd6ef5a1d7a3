"""Reads the first form of the architecture file, in which all sections of the space lay flat in one object."""

from typing import Any

from model_space.errors import InputError

NETWORK = {
    "hidden": "hidden",
    "heads": "heads",
    "inner": "feed_forward_size",
    "word_size": "embedding_dim",
    "flat_inner": "flat_mlp_size",
    "flat_size": "flat_out_size",
    "glimpses": "glimpses",
    "dropout": "dropout",
    "channel_dropout": "channel_dropout",
    "region_norm": "region_norm",
}
DATA = {"feature_size": "feature_size", "words": "vocabulary_size", "answers": "answers"}
ENCODER = {"draw": "resample"}
"""Keys of format 1 → keys of today, by section."""


def from_format1(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns the content of a file of format 1 in the form of format 2.

    Args:
        content: The JSON object of the file.
        where: Names the origin of the content in an error.

    Raises:
        InputError: The key ``space`` is no object, or sizes of the network or the data are missing.
    """
    flat = content.get("space", {})
    if not isinstance(flat, dict):
        raise InputError(f"{where}: space is {flat!r}, expected an object")
    for key in (*NETWORK, *DATA):
        if key not in flat and "space" in content:
            raise InputError(f"{where}: 'space.{key}' is missing")
    sections: dict[str, Any] = {
        "backbone": {key: flat[key] for key in flat if key not in (*NETWORK, *DATA, "encoder")},
        "network": {new: flat[old] for old, new in NETWORK.items() if old in flat},
        "data": {new: flat[old] for old, new in DATA.items() if old in flat},
    }
    if isinstance(encoder := flat.get("encoder"), dict):
        sections["encoder"] = {ENCODER.get(key, key): value for key, value in encoder.items()}
    elif "encoder" in flat:
        sections["encoder"] = encoder
    return content | {"format": 2} | ({"space": sections} if "space" in content else {})
