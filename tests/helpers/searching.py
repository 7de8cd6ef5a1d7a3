"""Settings of searches, short searches, and searches that end too early."""

from typing import Any

from trainer.strategies import STRATEGIES
from trainer.strategy import SearchSettings


def search_settings(strategy: str = "snas", **changes: Any) -> SearchSettings:
    """Returns the settings of a strategy; those of ``changes`` that the strategy does not have are left out.

    A strategy that derives by validation looks at few architectures.
    """
    declared = STRATEGIES[strategy]
    optional = {"temperature", "architecture_share"} - declared.model_fields.keys()
    few = {"samples": 8, "shortlist": 2, "tuning_steps": 3} if declared.model_fields["samples"].default else {}
    return declared(**few | {key: value for key, value in changes.items() if key not in optional})


def short_search(**changes) -> SearchSettings:
    """Settings of a short search; ``changes`` replace some."""
    return search_settings(**({"epochs": 3, "batch_size": 16, "lr": 1e-3, "architecture_lr": 1e-2} | changes))


class Killed(Exception):
    """Ends a search in the middle."""


def killed_at(epoch: int):
    """Returns a report function that ends the search at an epoch, before the checkpoint of that epoch."""

    def report(reported):
        if reported["epoch"] == epoch:
            raise Killed

    return report


def ignore(epoch):
    """Reports an epoch to nobody."""
