"""A step of a search in micro-batches and on several processes is the step of the whole batch."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import torch
from nni.nas.oneshot.pytorch.differentiable import DartsLightningModule

from benchmarks.plain import plain
from experiment.manager.workers import workers
from experiment.settings import Settings, read_settings
from model_space.errors import InputError
from tests.helpers.kill import difference, tiny
from tests.helpers.paths import ROOT
from tests.helpers.processes import SEARCHES, SPACE, cut_and_resumed, searching
from tests.helpers.running import run
from tests.helpers.searching import search_settings
from tests.helpers.tiny import space_of, tiny_network
from trainer.callbacks.checkpoint import CHECKPOINT, load_checkpoint
from trainer.callbacks.curve import read_curve
from trainer.callbacks.resume import Resume
from trainer.callbacks.run_folder import RUN
from trainer.data.splits import load_data
from trainer.search import run as run_search
from trainer.search import search
from trainer.strategies.darts import DartsModule
from trainer.strategies.snas import SnasModule
from trainer.supernet.choices import PARAMETER_SUFFIX, architecture_parameters, sample


def assert_searched_alike(first: Path, second: Path) -> None:
    one, two = (load_checkpoint(folder / CHECKPOINT) for folder in (first, second))
    assert one["global_step"] == two["global_step"] == 6 * len(one["optimizer_states"])
    assert one["state_dict"].keys() == two["state_dict"].keys()
    moved = 0
    for name, weight in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], weight, rtol=0, atol=1e-7, msg=name)
        moved += name.endswith(PARAMETER_SUFFIX) and (weight.abs() > 0.01).any().item()
    learns = one["optimizer_states"][-1]["state"]  # of the choices
    assert moved >= 3 or not learns  # a sampled `none` may keep a choice from moving
    for epoch, other in zip(read_curve(first), read_curve(second), strict=True):
        assert epoch.pop("choices") == other.pop("choices")
        del epoch["probabilities"], other["probabilities"]
        assert epoch.pop("entropy_by_label") == pytest.approx(other.pop("entropy_by_label"), rel=1e-6)
        assert epoch == pytest.approx(other, rel=1e-6)


def step_of_snas(self, batch, batch_idx: int) -> None:
    """Takes a step of SNAS with one backward pass; NNI makes the step of the weights."""
    for parameter in self.architecture:
        parameter.grad = torch.zeros_like(parameter)
    sample(self.samples, self.architecture, self.temperature)
    self.advance_optimization(self.training_module.training_step(batch, batch_idx), batch_idx)
    self.architecture_optimizers().step()
    self.advance_lr_schedulers(batch_idx)


WHOLE = {
    "snas": (SnasModule, step_of_snas),
    "single_path": (SnasModule, step_of_snas),
    "darts": (DartsModule, DartsLightningModule.training_step),
}
"""The step of a whole batch. What samples at each call would sample by another generator there."""


@pytest.mark.parametrize("name", SEARCHES)
def test_four_micro_batches_are_one_step(tiny_data, tmp_path, name, monkeypatch):
    divided = searching(tiny_data, tmp_path / "divided", name, accumulate=4)
    if name in WHOLE:
        module, step = WHOLE[name]
        monkeypatch.setattr(module, "training_step", step)
    whole = searching(tiny_data, tmp_path / "whole", name)
    assert_searched_alike(tmp_path / "whole", tmp_path / "divided")
    assert divided.choices == whole.choices


def test_two_processes_search_as_one(tmp_path):
    """Under torchrun, over gloo, each in two micro-batches; with dropout also if cut within an epoch and resumed."""
    settings = tiny(tmp_path)
    data = load_data(settings)
    (tmp_path / "data.json").write_text(settings.model_dump_json())
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    run(*torchrun, "-m", "tests.helpers.processes", tmp_path, "search")
    for name in SEARCHES:
        searching(data, tmp_path / name, name)
        assert_searched_alike(tmp_path / name, tmp_path / f"{name} two")
    whole, cut = (load_checkpoint(tmp_path / name / CHECKPOINT) for name in ("whole", "cut"))
    assert not difference(whole, cut)
    first, second = whole[Resume.KEY]["processes"]
    assert not torch.equal(first["cpu"], second["cpu"])  # each drops out for itself
    with pytest.raises(InputError, match="a run of 2 processes, and these are 1"):
        searching(data, tmp_path / "whole", "each_call", dropout=0.1)


@pytest.mark.parametrize(("name", "batches"), [("snas", 2), ("gumbel_darts", 4)])
def test_a_search_cut_within_an_epoch_ends_as_if_it_had_not_been(tiny_data, tmp_path, name, batches):
    searching(tiny_data, tmp_path / "whole", name, dropout=0.1, accumulate=2)
    cut_and_resumed(tiny_data, tmp_path / "cut", name, batches, accumulate=2)
    assert not difference(*(load_checkpoint(tmp_path / each / CHECKPOINT) for each in ("whole", "cut")))


def test_micro_batches_in_half_precision_have_the_gradients_of_the_plain_form(tiny_data, monkeypatch):
    """Of every candidate of every choice, after one step of the same sample."""

    def gradients(accumulate: int) -> dict[str, torch.Tensor]:
        settings = search_settings(
            epochs=1, steps_per_epoch=1, batch_size=32, accumulate=accumulate, precision="bf16-mixed"
        )
        supernet = run_search(tiny_data, space_of(tiny_data, SPACE), settings, [], folder=None)
        return {label: parameter.grad for label, parameter in architecture_parameters(supernet).items()}

    exact = gradients(accumulate=4)
    monkeypatch.setattr(SnasModule, "training_step", step_of_snas)
    with plain():
        whole = gradients(accumulate=1)
    several = [label for label in whole if len(whole[label]) > 1]
    assert len(several) > 4
    for label in several:
        scale = whole[label].abs().max() + 0.1
        torch.testing.assert_close(exact[label] / scale, whole[label] / scale, rtol=0, atol=0.03, msg=label)


def test_a_batch_that_cannot_be_divided_is_refused_and_nothing_is_written(tiny_data, tmp_path):
    settings = search_settings(batch_size=16, accumulate=3)
    with pytest.raises(InputError, match=r"search\.batch_size: 16 questions .* 3 micro-batches \(search\.accumulate\)"):
        search(tiny_data, space_of(tiny_data, SPACE), settings, tmp_path, lambda epoch: None)
    assert not (tmp_path / RUN).exists()


@pytest.mark.parametrize("key", ["accumulate", "processes"])
def test_none_is_refused(tmp_path, key):
    text = (ROOT / "settings" / "digits.yml").read_text()
    file = tmp_path / "settings.yml"
    file.write_text(text.replace("search:\n", f"search:\n  {key}: 0\n", 1))
    with pytest.raises(InputError, match=rf"search\.{key} is 0: must be greater than or equal to 1"):
        read_settings(file)


def in_two_processes(data, **changes) -> Settings:
    search = {"processes": 2, "batch_size": 16, "epochs": 1000} | changes
    return Settings(data=data, space=SPACE, network=tiny_network(), search=search_settings(**search))


def test_more_processes_than_gpus_are_refused(tiny_data_settings, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    refused = pytest.raises(InputError, match=r"search\.processes is 2, and there are 1 GPUs")
    with refused, workers(in_two_processes(tiny_data_settings), tmp_path):
        pass


SCRIPT = """
import sys
from pathlib import Path
from experiment.manager.workers import workers
from experiment.settings import Settings
from model_space.errors import InputError
from trainer.data.splits import load_data
from trainer.search import search
folder = Path(sys.argv[1])
settings = Settings.model_validate_json((folder / "settings.json").read_text())
data = load_data(settings.data)
try:
    with workers(settings, folder / "search"):
        search(data, settings.space_for(data.sizes), settings.search, folder / "search", lambda epoch: None)
except InputError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


@pytest.fixture
def first_process(tmp_path):
    """Starts the first of two processes, which ends with the test, however that ends; the other ends with it."""
    with ExitStack() as started:

        def start(settings: Settings) -> subprocess.Popen:
            (tmp_path / "settings.json").write_text(settings.model_dump_json())
            command = [sys.executable, "-c", SCRIPT, tmp_path]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            it = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
            started.enter_context(it)
            started.callback(it.kill)
            return it

        yield start


def wait_for(condition, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("killed", ["first", "other"])
def test_when_one_process_is_killed_the_other_ends(tiny_data_settings, tmp_path, first_process, killed):
    first = first_process(in_two_processes(tiny_data_settings))
    wait_for(lambda: read_curve(tmp_path / "search") if (tmp_path / "search").exists() else None)
    (other,) = psutil.Process(first.pid).children()
    addresses = {c.laddr.ip for p in (first.pid, other.pid) for c in psutil.Process(p).net_connections()}
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
    os.kill(first.pid if killed == "first" else other.pid, signal.SIGKILL)
    _, said = first.communicate(timeout=20)
    psutil.wait_procs([other], timeout=5)
    assert not other.is_running()
    if killed == "other":
        assert first.returncode == signal.SIGKILL
        assert said.splitlines()[-1] == "a process of the search was ended by SIGKILL (out of memory?)"


def test_another_process_ends_with_the_first_whatever_it_does(tiny_data_settings, tmp_path):
    """Also where it waits for nobody: here it searches alone."""
    command = [sys.executable, "-m", "experiment.manager.workers"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as it:
        settings = in_two_processes(tiny_data_settings).model_dump(mode="json")
        it.stdin.write(json.dumps({"settings": settings, "folder": str(tmp_path / "search")}) + "\n")
        it.stdin.flush()
        wait_for((tmp_path / "search" / CHECKPOINT).exists)
        it.stdin.close()
        assert it.wait(10) == -signal.SIGKILL


def test_what_is_wrong_is_said_once(tiny_data_settings, first_process):
    first = first_process(in_two_processes(tiny_data_settings, batch_size=15))
    _, said = first.communicate(timeout=60)
    assert first.returncode == 2
    assert said.count("search.batch_size: 15 questions cannot be divided") == 1 and "Traceback" not in said
