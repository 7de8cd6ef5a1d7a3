"""The health of a search, in words."""

from typing import Any

HEALTH = {
    "entropy": "entropy",
    "idle": "share of idle operations",
    "agreement": "agreement with the epoch before",
    "signal_to_noise": "signal to noise of the architecture's gradient",
}
"""What is said of the last epoch of a search: key → words."""


def in_words(epoch: dict[str, Any]) -> str:
    """Returns the health of a search at an epoch."""
    return "; ".join(f"{words} {epoch[key]:.2f}" for key, words in HEALTH.items() if key in epoch)
