"""The spaces and fixed networks, one file each. A new file here is a new space; see docs/spaces.md."""

from typing import TYPE_CHECKING

from model_space.contracts import BackboneSettings
from model_space.discovery import declared_in, one_of

SPACES = declared_in(__name__, BackboneSettings, "name")  # type: ignore[type-abstract]  # it only finds subclasses
"""The settings of every space by its name."""

if TYPE_CHECKING:
    AnyBackbone = BackboneSettings
else:
    AnyBackbone = one_of(SPACES, "name")
