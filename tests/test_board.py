"""The benchmark of TensorBoard's pictures."""

import re

import yaml

from tests.helpers.paths import ROOT
from tests.helpers.running import run


def test_it_says_what_the_pictures_cost(tmp_path):
    file = tmp_path / "few.yml"
    digits = {"folder": str(tmp_path / "digits"), "train_scenes": 40, "val_scenes": 4, "test_scenes": 4}
    content = {"base": str(ROOT / "settings/digits.yml"), "data": {"digits": digits, "min_answer_count": 1}}
    file.write_text(yaml.safe_dump(content | {"search": {"batch_size": 8}}))
    (row,) = re.findall(r"few.*", run("-m", "benchmarks.board", file, "--steps", "2"))
    epoch, pictures, share, largest = (float(cell) for cell in re.findall(r"[\d.]+", row))
    assert epoch > 0 and pictures > 0 and share > 0 and 1 < largest < 60
