"""What the documents say works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from experiment.results.drawing import svg, text
from model_space.architecture import Architecture
from model_space.spaces import stacked
from tests.helpers.paths import ROOT
from tests.helpers.photos import need_packages, with_packages
from tests.helpers.supernets import loss_of, supernet_of
from tests.helpers.tiny import tiny_batch, tiny_space
from trainer.supernet.choices import architecture_parameters, at_sample


def recipe(document: str, title: str) -> str:
    """Returns the code below a heading of a document."""
    _, text = (ROOT / document).read_text().split(f"## {title}\n")
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def run_in_a_copy(folder: Path, file: str, lines: str, module: str, *arguments: str) -> str:
    """Adds one file to a copy of the project, runs a module of tests.helpers there and returns what it prints."""
    for room in ("model_space", "trainer", "experiment", "tests/helpers"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / file).write_text(lines)
    done = subprocess.run(
        [sys.executable, "-m", f"tests.helpers.{module}", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_adding_an_operation(monkeypatch):
    """The lines of docs/spaces.md make a candidate that is searched, frozen, drawn and whose weights learn."""
    monkeypatch.setattr(stacked, "OPERATIONS", dict(stacked.OPERATIONS))
    lines = recipe("docs/spaces.md", "Adding an operation")
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
    lines = recipe("docs/spaces.md", "Adding a space")
    assert len(lines.splitlines()) <= 47
    results = tmp_path / "results"
    results.mkdir()
    file = "model_space/spaces/image_chain.py"
    printed = run_in_a_copy(tmp_path / "copy", file, lines, "new_space", "image_chain", str(results))
    assert re.search(r"^1 +(self_attention|guided_attention guided by question 0|feed_forward)$", printed, re.M)
    assert re.search(r"^ image_chain .* 729 ", printed, re.M)  # three operations in each of six blocks
    assert "image_chain: blocks 6" in (results / "architecture.svg").read_text()


def test_adding_a_strategy(tmp_path):
    """The file of docs/search.md makes a strategy that settings and trials name, and that searches and resumes."""
    lines = recipe("docs/search.md", "Adding a strategy")
    assert len(lines.splitlines()) <= 40
    file = "trainer/strategies/entropy_darts.py"
    printed = run_in_a_copy(tmp_path / "copy", file, lines, "new_strategy", "entropy_darts", str(tmp_path))
    entropy = {name: float(value) for name, value in (line.split() for line in printed.splitlines())}
    assert entropy["entropy_darts"] < entropy["darts"] - 0.01


def run_road(document: str, folder: Path, change: dict[str, str], environment: dict[str, str]) -> list[str]:
    """Runs the first block of commands of a document in a copy of the project, and compares how it ends with the block
    that is said to be printed; gives all that is printed."""
    text = (ROOT / document).read_text()
    commands, printed = re.search(r"```sh\n(.*?)```.*?```\n(.*?)```", text, re.DOTALL).groups()
    for shown, real in change.items():
        assert shown in commands
        commands = commands.replace(shown, real)
    for room in ("model_space", "trainer", "experiment", "settings"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("launch.py", "config.yml"):
        shutil.copy(ROOT / file, folder)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = environment | {"PATH": path, "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-eu", "-c", commands], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    answers = [line.split()[-1] for line in lines[-len(printed.splitlines()) :]]
    assert answers[0] == "white" and answers[-1] == "runs/answer.png"
    return lines


def test_the_road_of_own_data(tmp_path):
    """The commands of docs/own_data.md lead from a table of twenty questions to an answer, as they stand there."""
    printed = "\n".join(run_road("docs/own_data.md", tmp_path, {}, dict(os.environ)))
    assert "all is well" in printed and "agreement, %" in printed


@pytest.mark.parametrize("extractor", ["grid", "patches"])
def test_the_road_of_own_pictures(tmp_path, monkeypatch, extractor):
    """The commands of docs/pictures.md lead from pictures to an answer, with weights of a package, or without any."""
    if extractor == "grid":
        change = {"weights: hub": f"weights: {need_packages(monkeypatch)}"}
    else:
        change = {"{name: grid, backbone: tf_efficientnet_lite0, weights: hub}": "{name: patches}"}
    lines = run_road("docs/pictures.md", tmp_path, change, with_packages())
    assert any("pictures.safetensors: " in line for line in lines)
    assert Image.open(tmp_path / "runs/answer.png").size[0] > 500


def anchor(heading: str) -> str:
    """Returns the name by which a link leads to a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(
    "file", [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))], ids=lambda file: file.name
)
def test_links_lead_somewhere(file):
    for target, _, heading in re.findall(r"\]\(([^)#]*)(#([^)]+))?\)", file.read_text()):
        if target.startswith("https://"):
            continue
        path = file.parent / target if target else file
        assert path.exists(), target
        assert not heading or heading in map(anchor, re.findall(r"^#+ (.*)", path.read_text(), re.M)), heading
