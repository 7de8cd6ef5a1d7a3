"""Whole experiments through NNI's real manager, most of them with a trial that trains nothing."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import requests
import yaml

from experiment.actions.export import best
from experiment.manager import control, loopback, records
from experiment.manager.errors import SearchFailed
from experiment.manager.follow import follow, last_error, reason
from experiment.manager.process import find_manager, left_of, portal
from experiment.settings import Settings
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.spaces.stacked import StackedSettings
from tests.helpers.experiments import (
    check_trials,
    choices,
    fake,
    own_home,
    processes,
    start,
    trial_process,
    uninterrupted,
    write_config,
)
from tests.helpers.paths import ROOT
from tests.helpers.searching import search_settings
from tests.helpers.tiny import tiny_network
from trainer.search import search

NNICTL = Path(sys.executable).with_name("nnictl")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A home folder of its own."""
    yield from own_home(tmp_path, monkeypatch)


def nnictl(*words: str) -> str:
    """What a user types, without an active environment."""
    environment = os.environ | {"PATH": "/usr/bin:/bin"}
    environment.pop("NODE_OPTIONS", None)
    done = subprocess.run([NNICTL, *words], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def port_of_ours() -> str:
    """A port that nobody takes before nnictl listens: tests beside this one take the first free one from 8080 on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def wait_for(condition: Callable, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return result


def trial_of(folder: Path, seed: int, epochs: int = 0) -> records.Trial | None:
    """The trial with a seed, once it has so many epochs."""
    for trial in records.read(folder).trials:
        if trial.parameters["seed"] == seed and len(trial.curve) >= epochs:
            return trial


def kill(process: psutil.Process) -> None:
    process.kill()
    process.wait(10)


def listening(folder: Path) -> set[str]:
    """The addresses on which the manager and what it started listen."""
    family = [find_manager(folder), *find_manager(folder).children(recursive=True)]
    return {c.laddr.ip for p in family for c in p.net_connections() if c.status == psutil.CONN_LISTEN}


def check_that_foreign_requests_are_refused(folder: Path, port: int) -> None:
    """By a foreign name or from a foreign page the portal neither tells nor does anything; nor out of the logs."""
    api = "/api/v1/nni"
    ours = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    evil, opaque = ours | {"Host": "evil.example"}, ours | {"Origin": "null"}
    (folder / "log" / "secret").symlink_to(folder.parent.parent / "config.yml")

    def status(method: str, path: str, headers: dict[str, str], body: str = "") -> int:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request(method, path, body, headers | {"Content-Type": "application/json"})
            return connection.getresponse().status

    before = requests.get(f"http://127.0.0.1:{port}{api}/experiment", timeout=20).json()
    change = f"{api}/experiment?update_type=MAX_TRIAL_NUM"
    assert status("GET", f"{api}/experiment", ours) == status("GET", "/logs/nnimanager.log", ours) == 200
    for foreign in (evil, opaque, ours | {"Origin": "http://evil.example"}, ours | {"Host": "evil.localhost.example"}):
        assert status("GET", f"{api}/experiment", foreign) == 403
        assert status("PUT", change, foreign, json.dumps(before | {"params": {"maxTrialNumber": 99}})) == 403
        assert status("POST", f"{api}/trial-jobs", foreign, "{}") == 403
        assert status("GET", "/logs/nnimanager.log", foreign) == 403
    assert requests.get(f"http://127.0.0.1:{port}{api}/experiment", timeout=20).json() == before
    assert [status("GET", path, ours) for path in ("/logs/secret", "//logs/secret", "/LOGS/secret")] == [403] * 3
    for way in ("../db", "..%2fdb", "%2e%2e/db", "..%5cdb", "x/../../db"):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request("GET", f"/logs/{way}/nni.sqlite")
            assert not connection.getresponse().read().startswith(b"SQLite"), way


def test_experiment_of_nnictl(home: Path):
    """Without the environment active: portal on loopback, records and export at any time, nothing left after stop."""
    subprocess.run([sys.executable, "-m", "experiment.manager.loopback"], cwd=ROOT, check=True)  # what make does
    config = write_config(home, searchSpace=fake(seed=[0, 1], pause=[0.5]))
    port = port_of_ours()
    nnictl("create", "--config", str(config), "--port", port)
    folder = records.find(home / "runs")
    assert portal(folder) == f"http://127.0.0.1:{port}"
    assert listening(folder) == {"127.0.0.1"}
    check_that_foreign_requests_are_refused(folder, int(port))
    with pytest.raises(InputError, match="no trial has finished yet"):
        best(home / "runs")

    first = wait_for(lambda: trial_of(folder, seed=0, epochs=1))
    assert first.state == "RUNNING"
    *_, last = follow(folder)
    assert last.finished
    check_trials(folder, home)
    shown = requests.get(f"http://127.0.0.1:{port}/api/v1/nni/trial-jobs", timeout=20).json()
    by_id = {trial.id: trial for trial in last.trials}
    for job in shown:  # what the web page shows
        parameters = json.loads(job["hyperParameters"][0])
        final = json.loads(json.loads(job["finalMetricData"][0]["data"]))
        assert parameters["parameters"] == by_id[job["trialJobId"]].parameters
        assert int(job["finalMetricData"][0]["parameterId"]) == parameters["parameter_id"]
        assert json.loads(final["architecture"])["provenance"]["trial"] == job["trialJobId"]
    while_running = best(home / "runs")
    assert while_running.score == uninterrupted(1, home)[-1]
    assert while_running.provenance["experiment"] == folder.name

    nnictl("stop", folder.name)
    assert wait_for(lambda: not processes(home), 10)
    assert best(home / "runs", folder.name) == while_running
    check_trials(folder, home)
    nnictl("view", folder.name, "--port", port)
    assert listening(folder) == {"127.0.0.1"}
    control.stop(folder)
    assert not processes(home)


def test_kill(home: Path):
    """A trial and the manager killed with -9: after ``nnictl resume`` all is as if nothing had happened.

    But for the trial that was killed by itself, which NNI does not run again; resume() of this package does.
    """
    folder = start(write_config(home, searchSpace=fake(seed=[0, 1, 2, 3], pause=[0.5])))
    kill(trial_process(wait_for(lambda: trial_of(folder, seed=0, epochs=2))))
    wait_for(lambda: trial_of(folder, seed=1, epochs=2))
    wait_for(lambda: trial_of(folder, seed=0).failed)
    assert "killed from outside" in reason(trial_of(folder, seed=0))
    kill(find_manager(folder))
    assert wait_for(lambda: not processes(home), 5), "what the manager started did not end with it"
    with pytest.raises(SearchFailed, match="manager has ended"):
        list(follow(folder))

    port = port_of_ours()
    nnictl("resume", folder.name, "--port", port)
    *_, last = follow(folder)
    assert [trial.id for trial in last.trials if trial.failed] == [trial_of(folder, seed=0).id]
    control.stop(folder)

    control.resume(folder)
    *_, last = follow(folder)
    assert not any(trial.failed for trial in last.trials)
    control.stop(folder)
    check_trials(folder, home, seeds=(0, 1, 2, 3))


def test_resumed_at_once(home: Path):
    """A manager is killed again and again before it has done much, and resumed at once."""
    folder = start(write_config(home, searchSpace=fake(seed=[0, 1])))
    wait_for(lambda: trial_of(folder, seed=1))
    for _ in range(3):  # from the second on, NNI has taken the trials up again, and run none
        kill(find_manager(folder))
        control.stop(folder)
        control.resume(folder)
        wait_for(lambda: left_of(folder))
    list(follow(folder))
    control.stop(folder)
    check_trials(folder, home)


def test_all_trials_fail(home: Path):
    """Ends at once, and says why."""
    folder = start(write_config(home, searchSpace=fake(seed=[0, 1], strategy=["fails"])))
    with control.held(folder), pytest.raises(SearchFailed) as failure:
        list(follow(folder))
    log = records.read(folder).trials[-1].folder / "trial.stderr"
    assert str(failure.value) == f"all 2 trials failed; the last one: data/nowhere.json: no such file (log: {log})"
    assert log.is_file()
    assert not processes(home)


def test_two_experiments_and_an_interruption(home: Path):
    """Two at once have ports of their own; Ctrl-C on one leaves the other alone, and it can be resumed."""
    folder = start(write_config(home, searchSpace=fake(seed=[0, 1], pause=[0.8])))
    script = (
        # What runs in the background of a shell ignores Ctrl-C, and so would its children.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path\n"
        "from experiment.manager import control; from experiment.manager.follow import follow\n"
        "from experiment.manager.configuration import read_configuration\n"
        f"folder = control.start(read_configuration(Path({str(home / 'config.yml')!r})))\n"
        "with control.held(folder): list(follow(folder))"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True) as other:
        wait_for(lambda: len(list((home / "runs").glob("*/db/nni.sqlite"))) == 2)
        second = wait_for(lambda: next((f for f in known(home) if f != folder), None))
        wait_for(lambda: trial_of(second, seed=0, epochs=1))
        assert portal(second) not in (None, portal(folder))
        with pytest.raises(InputError, match="is running already"):
            control.resume(second)
        other.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in other.communicate(timeout=60)[1]
    assert find_manager(second) is None
    assert trial_of(second, seed=0).state == "RUNNING"  # NNI's word for interrupted

    control.resume(second)
    list(follow(second))
    list(follow(folder))
    for each in (folder, second):
        control.stop(each)
        check_trials(each, home)


@pytest.mark.parametrize("processes_of_trial", [1, 2])
def test_interrupted_search(home: Path, tiny_data_settings, tiny_data, processes_of_trial: int):
    """A real search, its manager killed with -9 and resumed: architecture and score of an undisturbed one. Two
    processes do as one does, without dropout."""
    dropout = 0.1 if processes_of_trial == 1 else 0.0
    settings = Settings(
        data=tiny_data_settings,
        space=StackedSettings(edges="one", cells=2, nodes=2),
        network=tiny_network(dropout=dropout, channel_dropout=dropout),
        search=search_settings(epochs=8, batch_size=8, lr=1e-3, temperature=(2.0, 0.5), processes=processes_of_trial),
    )
    file = home / "settings.yml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    command = f"OMP_NUM_THREADS=1 python -m experiment.manager.trial {file}"
    parameters = {"seed": 3, "architecture_lr": 0.01}
    space = choices({key: [value] for key, value in parameters.items()})
    folder = start(write_config(home, trialCommand=command, searchSpace=space))
    running = wait_for(lambda: trial_of(folder, seed=3, epochs=2))
    assert len([p for p in processes(home) if p.environ().get("NNI_TRIAL_JOB_ID") == running.id]) == processes_of_trial
    kill(find_manager(folder))
    assert trial_of(folder, seed=3).final is None
    assert wait_for(lambda: not processes(home), 5)
    nnictl("resume", folder.name, "--port", port_of_ours())
    *_, last = follow(folder)
    control.stop(folder)

    (trial,) = last.trials
    assert trial.state == "SUCCEEDED", reason(trial)
    chosen = settings.with_parameters(parameters)
    epochs = []
    alone = search(tiny_data, chosen.space_for(tiny_data.sizes), chosen.search, home / "alone", epochs.append)
    architecture = Architecture.from_json(trial.final["architecture"], trial.id)
    losses, losses_alone = ([epoch["loss"] for epoch in curve] for curve in (trial.curve, epochs))
    if processes_of_trial == 1:
        assert (architecture.choices, architecture.score, losses) == (alone.choices, alone.score, losses_alone)
    else:
        assert architecture.choices == alone.choices
        assert losses == pytest.approx(losses_alone, rel=1e-4)
    assert architecture.provenance["parameters"] == trial.parameters == parameters
    assert (architecture.provenance["strategy"], architecture.provenance["seed"]) == ("snas", 3)
    assert architecture.provenance["versions"]["nni"]


def known(home: Path) -> list[Path]:
    """The experiments whose start is on record."""
    found = []
    for file in (home / "runs").glob("[!_]*/db/nni.sqlite"):
        try:
            found.append(records.read(file.parents[1]).folder)
        except InputError:
            continue
    return found


def test_port_in_use(home: Path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} is in use"):
            start(write_config(home), port)
        with monkeypatch.context() as patch:  # taken by somebody between looking and listening
            patch.setattr(control, "free_port", lambda _: port)
            with pytest.raises(SearchFailed, match=f"did not start: Port {port} is not idle") as error:
                start(write_config(home), port)
        assert "\n" not in str(error.value) and not processes(home)
    with pytest.raises(InputError, match="port 70000 cannot be used"):
        start(write_config(home), 70000)
    assert not processes(home)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trialConcurency": 2}, "trialconcurency"),
        ({"trialConcurrency": "two"}, "trial_concurrency"),
        ({"trialConcurrency": 0}, "trial_concurrency > 0"),
        ({"trainingService": {"platform": "nowhere"}}, "platform"),
        ({"tuner": {"nam": "TPE"}}, "nam"),
        ({"searchSpace": None}, "searchSpace is missing"),
        ({"searchSpace": {"seed": {"_type": "choise", "_value": [0]}}}, "searchSpace.seed is .*choise"),
        ({"searchSpace": {"seed": [0, 1]}}, r"searchSpace.seed is \[0, 1\], expected"),
    ],
)
def test_wrong_config(home: Path, change: dict, message: str):
    with pytest.raises(InputError, match=message) as error:
        start(write_config(home, **change))
    assert "\n" not in str(error.value) and "config.yml" in str(error.value)


def test_no_config(home: Path):
    with pytest.raises(InputError, match=r"nothing\.yml: no experiment configuration here"):
        start(home / "nothing.yml")


def test_no_nni(home: Path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="no package for this Python or this platform"):
        start(write_config(home))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ""),
        ("warning: slow\nconfig.yml: unknown key\n\n", "config.yml: unknown key"),
        ("Traceback (most recent call last):\n  File\nKeyError: 'a'\n\nDuring ...\n\nTraceback (most recent call last):"
         "\n  File\ntorch.OutOfMemoryError: 3 GiB\nmore of it\n[W] bye\n", "torch.OutOfMemoryError: 3 GiB"),
    ],
)  # fmt: skip
def test_last_error(text: str, message: str):
    assert last_error(text) == message


def run_node(script: Path, **environment: str) -> dict:
    """Runs a script with NNI's Node and the variables that Python's start sets; what it printed."""
    import nni_node

    node = Path(nni_node.__path__[0], "node")
    words = [node, script, "--port", "0", "--python-interpreter", "/somewhere/bin/python"]
    done = subprocess.run(words, env={"PATH": "/usr/bin"} | environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("host, opened", [(None, False), ("127.0.0.1", False), ("0.0.0.0", True), ("10.0.0.7", True)])
def test_an_open_portal_is_warned_of(monkeypatch, host: str | None, opened: bool):
    monkeypatch.delenv("NNI_PORTAL_HOST", raising=False)
    if host:
        monkeypatch.setenv("NNI_PORTAL_HOST", host)
    assert (loopback.warning() is not None) == opened
    assert not opened or (host in loopback.warning() and "no login" in loopback.warning())


def test_preload(tmp_path: Path):
    """It changes NNI's manager, whatever the folder's name, and no other Node program."""
    site = tmp_path / "site with spaces"
    site.mkdir()
    loopback.install(site)
    starting = f"import site, os; site.addsitedir({str(site)!r}); print(os.environ.get('NODE_OPTIONS', ''))"
    environment = {key: value for key, value in os.environ.items() if key != "NODE_OPTIONS"}

    def options(before: dict[str, str]) -> str:
        words = [sys.executable, "-S", "-c", starting]
        return subprocess.run(
            words, env=environment | before, capture_output=True, text=True, check=True
        ).stdout.strip()

    both = options({"NODE_OPTIONS": "--no-warnings"})
    assert both.startswith("--no-warnings --require")
    server = tmp_path / "nni_node" / "main.js"
    server.parent.mkdir()
    server.write_text(
        "const server = require('http').createServer().listen(0, () => {"
        "console.log(JSON.stringify([server.address().address, process.env.PATH])); server.close(); });"
    )
    other = tmp_path / "other.js"
    shutil.copy(server, other)
    assert run_node(server, NODE_OPTIONS=both) == ["127.0.0.1", "/somewhere/bin:/usr/bin"]
    assert run_node(server, NODE_OPTIONS=both, NNI_PORTAL_HOST="0.0.0.0")[0] == "0.0.0.0"
    assert run_node(other, NODE_OPTIONS=both) == [run_node(server)[0], "/usr/bin"]
    (site / "nni_loopback.js").unlink()
    assert options({}) == ""
