"""One NNI trial, which is one one-shot search: the process that ``config.yml`` names.

    python -m experiment.manager.trial settings/digits.yml

NNI's manager runs it with parameters that it chose; they replace the settings of the same names. Where they are the
choices of an architecture, the trial trains that one from new weights in place of a search. It reports each epoch, and
last its score, its architecture, and what it really ran with. Run again under its id, after it or the manager was
killed, it resumes from its own checkpoint and reports only what is new.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiment.manager import records
from experiment.manager.lifeline import end_with_manager
from experiment.start import without_collector
from model_space.errors import InputError

with without_collector():
    import nni
    import nni.trial

    from experiment.manager import nni_private

if TYPE_CHECKING:
    from model_space.architecture import Architecture  # loads torch, which takes seconds

Epoch = dict[str, Any]
"""What a search tells of an epoch: epoch (from 1), epochs, accuracy in percent, loss, and what else a strategy says."""

Report = Callable[[Epoch], None]
"""Is told each epoch of a search."""


def run(settings_file: str, search: Callable[[dict[str, Any], Path, Report], "Architecture"]) -> None:
    """Runs the search of this trial and reports it.

    Args:
        settings_file: What the search reads, where NNI's parameters say nothing else.
        search: Takes the parameters, a folder of the trial's own, and a function that is told each epoch; returns the
            architecture.

    Raises:
        InputError: NNI did not start this process; or ``search`` raises it.
    """
    if "NNI_OUTPUT_DIR" not in os.environ:
        raise InputError(
            "experiment.manager.trial is run by NNI; start an experiment: nnictl create --config config.yml"
        )
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # how NNI ends a trial: at once, not as an exception to be handled
    end_with_manager()
    output = Path(os.environ["NNI_OUTPUT_DIR"])
    parameters = nni.get_next_parameter()
    known = _recorded(output)
    if known:
        # NNI hands parameters out in the order in which trials ask: two that start together may get each
        # other's. What the manager recorded for this trial is what its web page shows.
        nni_private.set_parameters(known.record)
        parameters = known.record["parameters"]
    reported = len(known.curve) if known else 0

    def report(epoch: Epoch) -> None:
        from trainer.callbacks.curve import epoch_numbers  # loads torch, which the search has done by then

        if epoch["epoch"] <= reported:
            return
        nni.trial.overwrite_intermediate_seq(epoch["epoch"] - 1)
        # Another number than a finite one would leave NNI's web page empty.
        numbers = {"epoch": epoch["epoch"], "epochs": epoch["epochs"], **epoch_numbers(epoch)}
        nni.report_intermediate_result({"default": numbers.pop("accuracy"), **numbers})

    architecture = search(parameters, output / "search", report)
    provenance = architecture.provenance | _provenance(settings_file, parameters)
    architecture = architecture.model_copy(update={"provenance": provenance})
    if not (known and known.final):
        text = architecture.to_json()
        final = {"default": architecture.score, "architecture": text, "parameters": json.dumps(parameters)}
        final |= {"health": provenance["health"]} if "health" in provenance else {}
        nni.report_final_result(final)


def _recorded(output: Path) -> records.Trial | None:
    """Returns this trial from the records of the manager; None where the manager is on another machine."""
    folder = output.parents[3]  # <experiment>/environments/<environment>/trials/<trial>
    if not (folder / "db").is_dir():
        return None
    trials = {trial.id: trial for trial in records.read(folder).trials}
    return trials.get(nni.get_trial_id())


def _provenance(settings_file: str, parameters: dict[str, Any]) -> dict[str, Any]:
    packages = ("torch", "nni", "pytorch-lightning")
    return {
        "experiment": nni.get_experiment_id(),
        "trial": nni.get_trial_id(),
        "parameters": parameters,
        "settings": settings_file,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def search(settings_file: str, parameters: dict[str, Any], folder: Path, report: Report) -> "Architecture":
    """Runs the search that a settings file describes, with the parameters of a trial, and returns its architecture.

    Parameters that are labels of the space are the choices of an architecture. Then all of them have to be there, and
    it is trained; its score is its accuracy on the validation split.
    """
    with without_collector():
        # Not before the trial has asked for its parameters: torch takes seconds to load.
        from experiment.manager.workers import workers
        from experiment.results.board import pictures
        from experiment.settings import read_settings
        from model_space.architecture import Architecture
        from trainer.callbacks.curve import read_curve
        from trainer.data.splits import load_data
        from trainer.search import search as one_shot_search
        from trainer.supernet.health import diagnosis
        from trainer.train import train

        where = "config.yml: searchSpace"
        settings = read_settings(settings_file)
        data = load_data(settings.data)
        labels = settings.space_for(data.sizes).candidates()
        choices = {name: value for name, value in parameters.items() if name in labels}
        others = {name: value for name, value in parameters.items() if name not in labels}
        settings = settings.with_parameters(others, where)
    start = time.monotonic()
    start_of_cpu = sum(os.times()[:4])
    space = settings.space_for(data.sizes)
    if choices:
        space.check(choices, where)
        architecture = Architecture(space=space, choices=choices)
        train(data, architecture, settings.train, folder, report)
        architecture = architecture.model_copy(update={"score": read_curve(folder)[-1]["accuracy"]})
        provenance = {"strategy": "multi-trial", "seed": settings.train.seed}
    else:
        with workers(settings, folder):
            architecture = one_shot_search(data, space, settings.search, folder, report, pictures(space))
        provenance = {"strategy": settings.search.strategy, "seed": settings.search.seed}
        if warning := diagnosis(read_curve(folder)):
            print(warning, file=sys.stderr)
            provenance["health"] = warning
    provenance["data"] = {"name": data.described["name"], "train": len(data.train), "val": len(data.val)}
    provenance["seconds"] = round(time.monotonic() - start, 1)
    provenance["cpu_seconds"] = round(sum(os.times()[:4]) - start_of_cpu, 1)  # with those of its workers, which ended
    return architecture.model_copy(update={"provenance": provenance})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("settings", help="settings file, e.g. settings/digits.yml")
    file = parser.parse_args().settings
    try:
        run(file, partial(search, file))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
