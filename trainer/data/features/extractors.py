"""What made features: its identity is kept beside them, so that those of different origin are not mixed."""

import json
from collections.abc import Mapping
from typing import Any

from model_space.errors import InputError


def parsed(extractor: str) -> dict[str, Any]:
    """Returns the identity of an extractor by its keys; nothing for a text that is none."""
    try:
        about = json.loads(extractor)
    except ValueError:
        return {}
    return about if isinstance(about, dict) and isinstance(about.get("name"), str) else {}


def in_words(extractor: str) -> str:
    """Returns the identity of an extractor, which is a JSON object, in words.

    Example:
        >>> in_words('{"backbone": "resnet50", "name": "grid", "weights": "0a1b2c3d"}')
        'grid (backbone resnet50, weights 0a1b2c3d)'
    """
    about = parsed(extractor)
    if not about:
        return repr(extractor[:100])
    name = about.pop("name")
    return f"{name} ({', '.join(f'{key} {value}' for key, value in about.items() if value is not None)})"


def only_extractor(made_by: Mapping[str, str | None]) -> str | None:
    """Returns what made some features; None if that is not known of any of them.

    Args:
        made_by: The identity of the extractor by the name of the features, for error messages; None if it is not known.

    Raises:
        InputError: If some were made by one extractor and some by another.
    """
    known = {where: extractor for where, extractor in made_by.items() if extractor is not None}
    if not known:
        return None
    (first, ours), *others = known.items()
    for where, theirs in others:
        if theirs != ours:
            raise InputError(
                f"{where}: features are made by {in_words(theirs)}, in {first} by {in_words(ours)}: expected the same "
                "extractor with the same weights"
            )
    return ours
