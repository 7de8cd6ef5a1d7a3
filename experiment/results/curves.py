"""A figure with the curves of all trials of an experiment."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from experiment.manager.records import Metric, Trial
from experiment.results.drawing import printable
from model_space.errors import InputError
from model_space.files import write_whole

CURVES = {
    "default": "validation accuracy, %",
    "entropy": "entropy of the architecture distribution (1: undecided)",
    "temperature": "temperature",
}
"""Key of what a trial reports at each epoch → title of its axes."""


def draw_curves(trials: Sequence[Trial], path: Path) -> None:
    """Draws accuracy and entropy by epoch, and the temperature where it varies, with a line for each trial.

    The same trials give the same bytes.

    Args:
        trials: The trials, of which some may have no epoch yet.
        path: The file to write, whose suffix is ``.svg`` or ``.png``.

    Raises:
        InputError: The suffix is another one, or the file cannot be written.
    """
    form = path.suffix.removeprefix(".")
    if form not in ("svg", "png"):
        raise InputError(f"{path}: curves are written as .svg or .png, not as '{path.suffix}'")
    # The name of a trial is no formula; no date and no random name goes into the file.
    with matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "curves", "svg.fonttype": "none"}):
        content = io.BytesIO()
        figure(trials).savefig(content, format=form, metadata={"Date": None} if form == "svg" else {"Software": None})
    with write_whole(path) as partial:
        partial.write_bytes(content.getvalue())


def figure(trials: Sequence[Trial]) -> Figure:
    """Returns the figure of `draw_curves`."""
    keys = list(CURVES)
    if not varies([value for trial in trials for value in values(trial.curve, "temperature")]):
        keys.remove("temperature")
    # The legend needs room for one line per trial.
    drawn = Figure(figsize=(5.2 * len(keys), 4 + 0.22 * len(trials)), dpi=120, layout="constrained")
    every_axes = drawn.subplots(1, len(keys))
    shared = shared_parameters(trials)
    colours = matplotlib.color_sequences["tab10"]
    for key, axes in zip(keys, every_axes, strict=True):
        for i, trial in enumerate(trials):
            epochs = [metric.get("epoch", position) for position, metric in enumerate(trial.curve, 1)]
            axes.plot(
                epochs,
                values(trial.curve, key),
                color=colours[i % len(colours)],
                linestyle=("-", "--", ":", "-.")[i // len(colours) % 4],
                marker="o",
                markersize=3,
                label=_label(trial, shared),
            )
        axes.set_xlabel("epoch")
        axes.set_title(CURVES[key], fontsize=10)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    if trials:
        lines = every_axes[0].get_lines()
        title = "all: " + parameters_in_words(shared) if shared else None
        legend = drawn.legend(handles=lines, loc="outside lower left", frameon=False, title=title, alignment="left")
        for words in (*legend.get_texts(), legend.get_title()):
            words.set_fontsize(9)
    return drawn


def values(curve: Sequence[Metric], key: str) -> list[float]:
    """Returns the value of each epoch, and NaN, which leaves a gap, where an epoch has none."""
    return [metric.get(key, math.nan) for metric in curve]


def varies(numbers: Sequence[float]) -> bool:
    """Returns whether numbers, of which some may be NaN, are not all the same."""
    return len({number for number in numbers if not math.isnan(number)}) > 1


def shared_parameters(trials: Sequence[Trial]) -> dict[str, object]:
    """Returns the parameters that all trials have alike; none where there is one trial."""
    if len(trials) < 2:
        return {}
    first, *others = (trial.parameters for trial in trials)
    return {key: value for key, value in first.items() if all(key in other and other[key] == value for other in others)}


def own_parameters(trial: Trial, shared: dict[str, object]) -> dict[str, object]:
    """Returns the parameters of a trial that it does not share with all others."""
    return {key: value for key, value in trial.parameters.items() if key not in shared}


def _label(trial: Trial, shared: dict[str, object]) -> str:
    own = own_parameters(trial, shared)
    words = f"trial {trial.number} ({printable(trial.id)})"
    if own:
        words += f": {parameters_in_words(own)}"
    if trial.state != "SUCCEEDED":
        words += f", {trial.state.lower()}" + ("" if trial.curve else " before its first epoch")
    return words


def parameters_in_words(parameters: dict[str, object]) -> str:
    """Returns parameters as a line."""
    return ", ".join(f"{printable(key)} {printable(value)}" for key, value in parameters.items())
