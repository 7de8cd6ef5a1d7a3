"""Turns what pydantic finds wrong in a user's file into one sentence."""

import difflib
import reprlib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pydantic
from pydantic import BaseModel
from pydantic.fields import FieldInfo

Key = str | int

RENAMED = {
    "word_size": "embedding_dim",
    "inner": "feed_forward_size",
    "flat_inner": "flat_mlp_size",
    "flat_size": "flat_out_size",
    "words": "vocabulary_size",
    "draw": "resample",
}
"""Names that keys had before → names that they have now."""

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80


def explained(error: pydantic.ValidationError, model: type[BaseModel], content: Any) -> tuple[list[Key], str]:
    """Explains the first mistake that pydantic found.

    Args:
        error: What pydantic raised.
        model: The class that ``content`` was to become.
        content: What a file holds.

    Returns:
        Where the mistake is, as the keys that lead to it, and a sentence that says what is wrong and what was
        expected.
    """
    # An unknown key explains a missing one better than the other way round.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    value, kind = first["input"], first["type"]
    keys, tags = _without_tags(first["loc"], content, kind == "value_error")
    name = cut(".".join(map(str, keys)))
    if kind == "extra_forbidden":
        elsewhere = _forms_with(model, keys)
        if elsewhere:
            return keys, f"unknown key '{name}': '{tags[-1]}' has none, it is a key of {', '.join(elsewhere)}"
        return keys, f"unknown key '{name}'{hint(str(keys[-1]), _known_keys(model, keys[:-1], tags))}"
    if kind == "missing":
        return keys, f"'{name}' is missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        key = first["ctx"]["discriminator"].strip("'")
        expected = ", ".join(_tags_of(model, keys))
        if kind == "union_tag_not_found":
            return keys, f"'{name}.{key}' is missing, expected one of {expected}"
        return [*keys, key], f"{name}.{key} is {shown(value.get(key))}, expected one of {expected}"
    if kind == "value_error":  # a rule over several keys, which names them itself
        return keys, f"{name}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")
    if kind in ("model_type", "model_attributes_type"):
        return keys, f"{name} is {shown(value)}: must be a section with keys"
    message = first["msg"].removeprefix("Input ").replace("should", "must")
    if kind in ("less_than", "less_than_equal") and max(first["ctx"].values()) > 1:
        message += "; a larger number is taken for a mistyped one, since it cannot be built or run"
    return keys, f"{name} is {shown(value)}: {message}"


def shown(value: Any) -> str:
    """Returns a value of a user's file for a sentence, with an ellipsis where it is long."""
    return _REPR.repr(value)


def cut(name: str) -> str:
    """Returns a name of a user's file for a sentence, with an ellipsis where it is long."""
    return name if len(name) <= 100 else f"{name[:60]}...{name[-30:]}"


def hint(key: str, known: Iterable[str]) -> str:
    """Returns the end of a sentence about an unknown key: the key that was meant, or all that are known."""
    known = list(known)
    if RENAMED.get(key) in known:
        return f"; it is called '{RENAMED[key]}' now"
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(known)}"


def _without_tags(location: tuple[Key, ...], content: Any, of_section: bool) -> tuple[list[Key], list[str]]:
    """Parts what pydantic calls a place into the keys of the file and the names of the forms that it tried.

    Args:
        location: The place.
        content: What the file holds.
        of_section: Whether the mistake is one of a whole section, so that the last part may be the name of a form.
    """
    keys: list[Key] = []
    tags: list[str] = []
    for i, key in enumerate(location):
        inside = isinstance(content, Mapping) and key in content
        inside |= isinstance(content, list | tuple) and isinstance(key, int) and key < len(content)
        # What is not in the file is the name of a form, or, at the end, a key that is missing.
        if not inside and (key in ("one", "several") or of_section or i + 1 < len(location)):
            tags.append(str(key))
            continue
        keys.append(key)
        content = content[key] if inside else None
    return keys, tags


def _known_keys(model: type[BaseModel], section: list[Key], tags: list[str]) -> list[str]:
    """Returns the keys that a section of a file may have."""
    for key in section:
        if isinstance(key, int):
            continue  # all parts of a list are of one kind
        found = list(_models(model.model_fields[key]))
        model = next((each for each in found if _name(each) in tags), found[0])
    return list(model.model_fields)


def _tags_of(model: type[BaseModel], keys: list[Key]) -> list[str]:
    """Returns the names of the forms that the section at these keys may have."""
    for key in keys[:-1]:
        model = next(_models(model.model_fields[str(key)]))
    return [name for each in _models(model.model_fields[str(keys[-1])]) if (name := _name(each))]


def _forms_with(model: type[BaseModel], keys: list[Key]) -> list[str]:
    """Returns the names of the forms of a section that have the last of these keys; none where it has one form."""
    for key in keys[:-2]:
        if isinstance(key, str):
            model = next(_models(model.model_fields[key]))
    if len(keys) < 2 or not isinstance(keys[-2], str):
        return []
    forms = list(_models(model.model_fields[keys[-2]]))
    return [name for each in forms if keys[-1] in each.model_fields and (name := _name(each)) and len(forms) > 1]


def _name(model: type[BaseModel]) -> str | None:
    """Returns the name by which a form of a section is told from the others."""
    return next((model.model_fields[key].default for key in ("name", "strategy") if key in model.model_fields), None)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, FieldInfo):
        annotation = annotation.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, tuple):
        for part in typing.get_args(annotation):
            yield from _models(part)
