"""Where the project and the reference figures are."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
GOLDEN = Path(os.environ.get("GOLDEN", ROOT / "tests" / "golden"))
"""The folder of the reference figures; the environment variable ``GOLDEN`` names another one of the same form."""
DIGITS = ROOT / "settings" / "digits.yml"
STACKED = ROOT / "tests" / "helpers" / "stacked.yml"
"""Settings of a search of the space ``stacked``, which tests change."""
