"""Finds what the files of a folder declare, so that a new space, question encoder or strategy is one new file."""

import pkgutil
from importlib import import_module
from typing import Annotated, Any, TypeVar, Union

from pydantic import BaseModel, Field

T = TypeVar("T", bound=BaseModel)


def declared_in(package: str, contract: type[T], key: str) -> dict[str, type[T]]:
    """Imports every module of a package and returns the classes there that fulfil a contract.

    Args:
        package: Dotted name of the package, for example ``"model_space.spaces"``.
        contract: The base class. Its subclasses say by the default of the field ``key`` what they are called.
        key: The field that names a class, for example ``"name"``.

    Returns:
        The subclasses by their names, in alphabetical order of the names.
    """
    for module in pkgutil.iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")
    found: dict[str, type[T]] = {}
    waiting = list(contract.__subclasses__())
    while waiting:
        declared = waiting.pop()
        waiting += declared.__subclasses__()
        if not declared.model_fields[key].is_required():  # else it is what several have in common
            found[declared.model_fields[key].default] = declared
    return dict(sorted(found.items()))


def one_of(classes: dict[str, type[T]], key: str) -> Any:
    """Returns the type of a section of settings whose ``key`` says which of the classes it is."""
    return Annotated[Union[tuple(classes.values())], Field(discriminator=key)]  # noqa: UP007  made at run time
