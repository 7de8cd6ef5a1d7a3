"""The search strategies, one file each. A new file here is a new strategy; see docs/search.md."""

from typing import TYPE_CHECKING

from model_space.discovery import declared_in, one_of
from trainer.strategy import SearchSettings

STRATEGIES = declared_in(__name__, SearchSettings, "strategy")  # type: ignore[type-abstract]  # it only finds subclasses
"""The settings of every strategy by its name."""

if TYPE_CHECKING:
    AnySearch = SearchSettings
else:
    AnySearch = one_of(STRATEGIES, "strategy")
