"""A running experiment in the terminal: a bar a trial, and why one failed as soon as it did."""

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from experiment.manager import reason
from experiment.records import ENDED, Experiment, Trial


def show(looks: Iterable[Experiment], console: Console) -> Experiment:
    """Shows an experiment until ``looks`` (of :func:`experiment.manager.follow`) ends; returns the last look.

    Where the output is no terminal but a file, each epoch is a line of its own.
    """
    columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[epoch]}"), TimeElapsedColumn())
    bars, seen = {}, {}
    with Progress(*columns, console=console, transient=True) as progress:
        for look in looks:
            for trial in look.trials:
                if trial.id not in bars:
                    bars[trial.id] = progress.add_task(name(trial), total=None, epoch="")
                if seen.get(trial.id) == (trial.state, len(trial.curve)):
                    continue
                seen[trial.id] = (trial.state, len(trial.curve))
                last = trial.curve[-1] if trial.curve else {}
                bar = bars[trial.id]
                progress.update(bar, total=last.get("epochs"), completed=last.get("epoch", 0), epoch=epoch(trial))
                if trial.failed:
                    console.print(f"{name(trial)} failed: {reason(trial)}", markup=False, highlight=False, soft_wrap=True)
                elif trial.state in ENDED or not console.is_terminal:
                    console.print(f"{name(trial)}  {epoch(trial)}", markup=False, highlight=False, soft_wrap=True)
                if trial.state in ENDED:
                    progress.stop_task(bar)
    return look


def name(trial: Trial) -> str:
    """``trial 2: snas, seed 1``"""
    values = trial.parameters.items()
    return f"trial {trial.number}: " + ", ".join(v if isinstance(v, str) else f"{k} {v:g}" for k, v in values)


def epoch(trial: Trial) -> str:
    """``epoch 3/10  accuracy 51.2 %  loss 0.713  entropy 1.52``"""
    if not trial.curve:
        return {"RUNNING": "starting"}.get(trial.state, trial.state.lower())
    last = trial.curve[-1]
    rest = {key: value for key, value in last.items() if key not in ("default", "epoch", "epochs")}
    words = [f"epoch {last['epoch']}/{last['epochs']}", f"accuracy {last['default']:.1f} %"]
    return "  ".join(words + [f"{key} {value:.3g}" for key, value in rest.items()])
