"""The rules of the house, which README and CONTRIBUTING name."""

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from model_space.encoders import ENCODERS
from model_space.spaces import SPACES
from tests.helpers.paths import ROOT
from trainer.strategies import STRATEGIES

ROOMS = ["model_space", "trainer", "experiment", "launch"]
"""The rooms in the order in which they may import each other: each imports those before it."""

NNI_PRIVATE = {
    "experiment.manager.nni_private": {"_action", "_check_rest_server", "_params"},
    "trainer.supernet.choices": {"_arch_alpha", "_softmax"},
}
"""The private names of NNI that this package uses, by the one file that uses them."""


def modules_below(package: str) -> list[str]:
    """Returns the dotted names of the modules of a package, or of ``launch`` itself."""
    folder = ROOT.joinpath(*package.split("."))
    files = sorted(folder.rglob("*.py")) or [folder.with_suffix(".py")]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


@cache
def parsed(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


def imports(module: str) -> Iterator[str]:
    """Yields the dotted name of everything that a module imports, within functions too."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room):
    later = [*ROOMS[ROOMS.index(room) + 1 :], "tests", "benchmarks"]
    wrong = {(m, n) for m in modules_below(room) for n in imports(m) for other in later if is_within(n, other)}
    assert not wrong


def test_data_imports_nothing_else_of_the_trainer():
    names = [(module, name) for module in modules_below("trainer.data") for name in imports(module)]
    assert not [pair for pair in names if is_within(pair[1], "trainer") and not is_within(pair[1], "trainer.data")]


@pytest.mark.parametrize("file", NNI_PRIVATE)
def test_private_names_of_nni_are_in_one_file(file):
    used = {
        module
        for room in [*ROOMS, "benchmarks", "tests"]
        for module in modules_below(room)
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.Attribute) and node.attr in NNI_PRIVATE[file]
    }
    assert used == {file}


def test_no_test_imports_another():
    tests = [module for module in modules_below("tests") if module.rpartition(".")[2].startswith("test_")]
    imported = {(module, name) for module in tests for name in imports(module) if is_within(name, "tests")}
    assert not [pair for pair in imported if not is_within(pair[1], "tests.helpers")]


@pytest.mark.parametrize("declared", [SPACES, ENCODERS, STRATEGIES], ids=["spaces", "encoders", "strategies"])
def test_a_new_file_needs_no_entry_in_a_list(declared):
    """No module of the other rooms names two spaces, encoders or strategies: that would be a list to keep."""
    own = ("model_space.spaces", "model_space.encoders", "model_space.published", "trainer.strategies")
    homes = {settings.__module__: name for name, settings in declared.items()}
    for module in (module for room in ROOMS for module in modules_below(room)):
        if not any(is_within(module, room) for room in own):
            texts = {node.value for node in ast.walk(parsed(module)) if isinstance(node, ast.Constant)}
            imported = {name for home, name in homes.items() if any(is_within(i, home) for i in imports(module))}
            named = imported | texts.intersection(declared)
            assert len(named) <= 1, f"{module} names {sorted(named)}"
