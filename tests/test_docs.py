"""What the documents say works."""

import re

import pytest

from experiment.results.drawing import svg, text
from model_space.architecture import Architecture
from model_space.spaces import stacked
from tests.helpers.paths import ROOT
from tests.helpers.supernets import loss_of, supernet_of
from tests.helpers.tiny import tiny_batch, tiny_space
from trainer.supernet.choices import architecture_parameters, at_sample


def test_adding_an_operation(monkeypatch):
    """The lines of docs/spaces.md make a candidate that is searched, frozen, drawn and whose weights learn."""
    monkeypatch.setattr(stacked, "OPERATIONS", dict(stacked.OPERATIONS))
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/spaces.md").read_text(), re.DOTALL)
    assert len(lines.splitlines()) <= 20
    exec(lines, {})
    fields = tiny_space(stacked.StackedSettings(edges="all", cells=1, nodes=1))
    assert all("gated_by_other" in values for values in fields.candidates().values())
    choices = dict.fromkeys(fields.candidates(), "gated_by_other")
    supernet = supernet_of(fields.backbone)
    with at_sample(supernet, choices) as samples:
        loss_of(supernet, tiny_batch()).backward()
    assert all(sample.grad.any() for sample in samples.values())
    assert len(architecture_parameters(supernet)["image_node1_from0"]) == 6
    architecture = Architecture(space=fields, choices=choices)
    assert architecture.network().double()(*tiny_batch()).isfinite().all()
    assert "gated_by_other" in text(architecture) and "gated" in svg(architecture)


@pytest.mark.parametrize(
    "file", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda file: file.name
)
def test_links_lead_somewhere(file):
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
        assert target.startswith("https://") or (file.parent / target).exists(), target
