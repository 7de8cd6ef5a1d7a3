"""Refuses, before anything is downloaded, a Python or a platform for which NNI 3.0 or this project has no packages.

Runs with the standard library alone, and on old Pythons.
"""

import platform
import sys
from typing import Any

PYTHONS = (3, 11), (3, 13)  # NumPy 2.4 begins with 3.11; later ones than 3.13 were not tried
PLATFORMS = {("Linux", "x86_64")}  # NNI 3.0 has none for ARM, torch 2.13 none for macOS on x86_64, Windows has no make


def complaint(version: "tuple[Any, ...]", system: str, machine: str) -> "str | None":
    """Returns one line on what is not supported, or None where all is well."""
    if not PYTHONS[0] <= version[:2] <= PYTHONS[1]:
        return (
            "Python {}.{} is not supported: expected {}.{} to {}.{}; name another with: make PYTHON=python3.11".format(
                version[0], version[1], *(PYTHONS[0] + PYTHONS[1])
            )
        )
    if (system, machine) not in PLATFORMS:
        return f"{system} on {machine} is not supported: NNI 3.0 and torch 2.13 both have packages for Linux on x86_64"
    return None


if __name__ == "__main__":
    sys.exit(complaint(sys.version_info, platform.system(), platform.machine()))
