"""The question encoders, one file each. A new file here that declares one is a new encoder."""

from typing import TYPE_CHECKING

from model_space.contracts import EncoderSettings
from model_space.discovery import declared_in, one_of

ENCODERS = declared_in(__name__, EncoderSettings, "name")  # type: ignore[type-abstract]  # it only finds subclasses
"""The settings of every question encoder by its name."""

if TYPE_CHECKING:
    AnyEncoder = EncoderSettings
else:
    AnyEncoder = one_of(ENCODERS, "name")
