"""What the documents say works."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from experiment.results.drawing import svg, text
from model_space.architecture import Architecture
from model_space.spaces import stacked
from tests.helpers.paths import ROOT
from tests.helpers.supernets import loss_of, supernet_of
from tests.helpers.tiny import tiny_batch, tiny_space
from trainer.supernet.choices import architecture_parameters, at_sample


def recipe(title: str) -> str:
    """Returns the code below a heading of docs/spaces.md."""
    _, text = (ROOT / "docs/spaces.md").read_text().split(f"## {title}\n")
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def test_adding_an_operation(monkeypatch):
    """The lines of docs/spaces.md make a candidate that is searched, frozen, drawn and whose weights learn."""
    monkeypatch.setattr(stacked, "OPERATIONS", dict(stacked.OPERATIONS))
    lines = recipe("Adding an operation")
    assert len(lines.splitlines()) <= 20
    exec(lines, {})
    space = tiny_space(stacked.StackedSettings(edges="all", cells=1, nodes=1))
    assert all("gated_by_other" in values for values in space.candidates().values())
    choices = dict.fromkeys(space.candidates(), "gated_by_other")
    supernet = supernet_of(space.backbone)
    with at_sample(supernet, choices) as samples:
        loss_of(supernet, tiny_batch()).backward()
    assert all(sample.grad.any() for sample in samples.values())
    assert len(architecture_parameters(supernet)["image_node1_from0"]) == 6
    architecture = Architecture(space=space, choices=choices)
    assert architecture.network().double()(*tiny_batch()).isfinite().all()
    assert "gated_by_other" in text(architecture) and "gated" in svg(architecture)


def test_adding_a_space(tmp_path):
    """The file of docs/spaces.md makes a space that is listed, searched, frozen, drawn, saved and loaded."""
    lines = recipe("Adding a space")
    assert len(lines.splitlines()) <= 47
    copy = tmp_path / "copy"
    for room in ("model_space", "trainer", "experiment", "tests/helpers"):
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "model_space/spaces/image_chain.py").write_text(lines)
    (tmp_path / "results").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.new_space", "image_chain", str(tmp_path / "results")],
        cwd=copy,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^1 +(self_attention|guided_attention guided by question 0|feed_forward)$", done.stdout, re.M)
    assert re.search(r"^ image_chain .* 729 ", done.stdout, re.M)  # three operations in each of six blocks
    assert "image_chain: blocks 6" in (tmp_path / "results/architecture.svg").read_text()


@pytest.mark.parametrize(
    "file", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda file: file.name
)
def test_links_lead_somewhere(file):
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
        assert target.startswith("https://") or (file.parent / target).exists(), target
