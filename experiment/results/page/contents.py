"""What the page of an experiment says, part by part. A part that is not there raises :class:`Absent`."""

import json
import math
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from experiment.manager.follow import stderr, why
from experiment.manager.records import ENDED, Experiment, Trial
from experiment.results import drawing
from experiment.results.best import best_architecture, best_first, score
from experiment.results.comparison import RESULT, mcan_of_size
from experiment.results.curves import CURVES, own_parameters, shared_parameters, values, varies
from experiment.results.health import in_words
from experiment.results.page.inline import SERIES, inline
from experiment.results.page.plots import MARKS, Line, by_epoch, leads, look_of, scatter
from experiment.results.page.questions import Asked, ask
from experiment.results.ranking import with_common_candidates
from experiment.results.report import cells, read_comparison
from experiment.settings import Settings, read_settings
from trainer.callbacks.checkpoint import CHECKPOINT
from trainer.callbacks.curve import read_curve
from trainer.callbacks.run_folder import RUN
from trainer.supernet.health import diagnosis

ROOT = Path(__file__).parents[3]
ROWS = 200
"""Number of trials that the page lists and draws: a page of thousands would be read by nobody."""
COLOURED = len(SERIES)
"""Number of trials, the best ones, whose curves have a colour of their own; those of the others are grey."""
PANELS = 60
"""Number of choices whose distribution is drawn. Each takes a few hundredths of a second."""
LAST_LINES = 20
"""Number of lines of its standard error that are shown of a failed trial."""
LETTERS = 300
"""Number of letters that are shown of such a line."""


class Absent(Exception):
    """Says in a sentence why a part of the page is not there."""


def without_places(text: str) -> str:
    """Returns a text in which this folder and the home folder are ``.`` and ``~``: whoever is given the page has
    others, and need not know what these are called."""
    for place, short in ((Path.cwd(), "."), (ROOT, "."), (Path.home(), "~")):
        if place != Path(place.root):
            text = text.replace(str(place), short)
    return text


def provenance(trial: Trial) -> dict[str, Any]:
    """Returns where the architecture of a trial comes from; nothing where it has reported none."""
    text = trial.final.get("architecture") if trial.final else None
    try:
        found = json.loads(text)["provenance"] if isinstance(text, str) else {}
    except (ValueError, KeyError, TypeError):  # not an architecture; the part that draws it says so
        return {}
    return found if isinstance(found, dict) else {}


def facts(experiment: Experiment) -> dict[str, str]:
    """Returns what is said of an experiment at the top of its page, by its name."""
    trials, total = experiment.trials, experiment.total
    states = Counter(trial.state.lower().replace("_", " ") for trial in trials)
    told = ", ".join(f"{number} {state}" for state, number in states.items())
    number = f"{len(trials)}" + (f" of {total:.0f}" if total < math.inf else "")
    said = {"experiment": experiment.id, "name": str(experiment.config.get("experimentName", ""))}
    said["started"] = f"{experiment.started:%Y-%m-%d %H:%M %z}"
    ends = [trial.ended for trial in trials if trial.ended]
    if experiment.finished and ends:
        said["finished"] = f"{max(ends):%Y-%m-%d %H:%M %z}"
    else:
        said["finished"] = f"not yet: {sum(trial.state in ENDED for trial in trials)} trials have ended"
    said["trials"] = f"{number}: {told}" if trials else f"{number}, none has started yet"
    run = {
        json.dumps(each["versions"], sort_keys=True): each["versions"]
        for each in map(provenance, trials)
        if "versions" in each
    }
    versions = [", ".join(f"{name} {version}" for name, version in each.items()) for each in run.values()]
    said["run with"] = "; ".join(versions) or "not known before a trial has ended"
    said["checkout"] = checkout()
    return {name: words for name, words in said.items() if words}


def checkout() -> str:
    """Returns the commit of this checkout, in words; empty where this is none."""
    try:
        top, commit, changed = (
            subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (
                ("rev-parse", "--show-toplevel"),
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
            )
        )
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, or one without a commit
        return ""
    if Path(top) != ROOT.resolve():
        return ""  # a copy within something else
    return f"{commit[:12]}, which wrote this page" + (", with changes" if changed else "")


def settings(file: Path | None) -> Settings:
    """Returns the settings of the trials, as their file is now."""
    if file is None:
        raise Absent("The records of the experiment do not name a settings file.")
    return read_settings(file)


def ran_with(trials: Sequence[Trial]) -> dict[str, Any]:
    """Returns what the best trial ran with, by its own record."""
    for trial in best_first(trials):
        file = trial.folder / "search" / RUN
        if file.exists():
            return {"trial": trial.number} | json.loads(file.read_text())
    raise Absent("No trial has recorded yet what it runs with.")


@dataclass(frozen=True)
class Table:
    header: list[str]
    rows: list[list[str]]
    verdict: str
    questions: int
    plot: Markup | None


def comparison(experiment: Experiment, file: Path) -> Table:
    """Returns the comparison of what the experiment found with what it has to beat."""
    if not file.exists():
        raise Absent("What the search found has not been compared yet: make search does so when all trials have ended.")
    found = read_comparison(file)
    if found.experiment != experiment.id:
        of = (
            f"of experiment {found.experiment}"
            if found.experiment
            else "by an older version, which names no experiment"
        )
        raise Absent(f"The latest comparison ({file}) is {of}. make search makes that of the latest experiment.")
    header, rows = cells(found.rows, found.questions, found.accuracy)
    header.insert(2, "found above it (95 % interval)")
    for name, row in zip((each.name for each in found.rows), rows, strict=True):
        lead = found.differences.get(name)
        row.insert(2, f"{lead.points:+.1f} ({lead.interval[0]:.1f} to {lead.interval[1]:.1f})" if lead else "–")
    plot = None
    if found.differences:
        shown = [(name, lead.points, lead.interval) for name, lead in found.differences.items()]
        plot = leads("leads", found.verdict, shown)
    return Table(header, rows, found.verdict, found.questions, plot)


def drawings(experiment: Experiment) -> list[tuple[str, Markup, int, str]]:
    """Returns the pictures of the best architecture and of MCAN: caption, picture, its width, and the same in text."""
    if not any(score(trial) is not None for trial in experiment.trials):
        raise Absent("No trial has ended with a result yet.")
    found = best_architecture(experiment)
    mcan = mcan_of_size(found.space, found.parameters())
    pictures = []
    for name, architecture in (("found", found), ("MCAN", mcan)):
        caption = f"{'The best architecture' if name == 'found' else 'MCAN'}, {architecture.parameters():,} weights"
        svg = without_places(drawing.svg(architecture))
        width = int(ElementTree.fromstring(svg).attrib["width"])
        text = without_places(drawing.text(architecture))
        pictures.append((caption, inline(svg, name.lower(), caption), width, text))
    return pictures


def asked(experiment: Experiment, read: Settings | None) -> list[Asked]:
    """Returns a few questions that the trained network of the best architecture was asked."""
    folders = [file.parent for file in (experiment.folder / "comparison").glob(f"found-seed*/{RESULT}")]
    checkpoints = [folder / CHECKPOINT for folder in sorted(folders) if (folder / CHECKPOINT).exists()]
    if not checkpoints:
        raise Absent("The best architecture has not been trained from new weights yet: there is no network to ask.")
    if read is None:
        raise Absent("The settings, which name the questions, cannot be read.")
    return ask(checkpoints[0], read)


@dataclass(frozen=True)
class Trials:
    shared: dict[str, Any]
    """The parameters that all trials have alike."""
    rows: list[dict[str, Any]]
    left_out: int
    """Number of trials that are not listed."""


def trials(experiment: Experiment) -> Trials:
    """Returns what is said of each trial, the best first."""
    shared = shared_parameters(experiment.trials)
    ordered = best_first(experiment.trials)
    rows = []
    for trial in ordered[:ROWS]:
        curve = searched(trial)
        last = trial.curve[-1] if trial.curve else {}
        origin = provenance(trial)
        warning = origin.get("health") or (diagnosis(curve) if curve and trial.state in ENDED else None)
        rows.append(
            {
                "trial": trial,
                "state": trial.state.lower().replace("_", " "),
                "score": score(trial),
                "epochs": f"{len(trial.curve)} of {last['epochs']}" if "epochs" in last else f"{len(trial.curve)}",
                "entropy": last.get("entropy"),
                "seconds": origin.get("seconds"),
                "parameters": own_parameters(trial, shared) or ({} if shared else trial.parameters),
                "health": in_words(curve[-1]) if curve else "",
                "warning": warning,
            }
        )
    return Trials(shared, rows, len(ordered) - len(rows))


def searched(trial: Trial) -> list[dict[str, Any]]:
    """Returns the curve of a trial that searches, with the probabilities of the candidates; else nothing."""
    curve = read_curve(trial.folder / "search")
    return curve if curve and "probabilities" in curve[-1] else []


@dataclass(frozen=True)
class Curves:
    plots: list[Markup]
    key: list[Line]
    """The lines that have a colour of their own."""
    grey: int
    """Number of trials that have none."""
    left_out: int
    """Number of trials that are not drawn."""


def curves(every: Sequence[Trial]) -> Curves:
    """Returns plots of what the trials report at each epoch."""
    begun = [trial for trial in best_first(every) if trial.curve]
    ordered = begun[:ROWS]
    if not ordered:
        raise Absent("No trial has ended its first epoch yet.")
    plots = []
    key: list[Line] = []
    for name, title in CURVES.items():
        drawn = [trial for trial in ordered if any(name in metric for metric in trial.curve)]
        numbers = [number for trial in drawn for number in values(trial.curve, name)]
        if not drawn or (name == "temperature" and not varies(numbers)):
            continue
        lines = []
        for place, trial in enumerate(ordered):
            epochs = [metric.get("epoch", position) for position, metric in enumerate(trial.curve, 1)]
            own = place < COLOURED
            colour, dash = look_of(place) if own else ("#8a8f98", "-")
            lines.append(Line(f"trial {trial.number}", epochs, values(trial.curve, name), colour, dash, not own))
        last = {line.name: line.y[-1] for line in lines[:COLOURED] if math.isfinite(line.y[-1])}
        said = "; ".join(f"{trial}: {value:.2f} in the end" for trial, value in last.items())
        plots.append(by_epoch(f"curve-{name}", f"{title}, by epoch. {said}", lines[::-1], title))
        key = key or lines[:COLOURED]
    return Curves(plots, key, max(0, len(ordered) - COLOURED), len(begun) - len(ordered))


@dataclass(frozen=True)
class Moved:
    """How the distribution of each choice of a trial moved."""

    trial: Trial
    groups: list[tuple[list[Line], list[tuple[str, str, Markup]]]]
    """Choices with candidates in common: their key, and the label, the derived candidate and the plot of each."""
    ranking: list[tuple[list[str], list[tuple[str, list[tuple[str, bool]], str]]]]
    """The probabilities after the last epoch: candidates; label, percentages with whether it was taken, lead."""
    left_out: int
    """Number of choices that are not drawn."""


def moves(every: Sequence[Trial]) -> tuple[list[Moved], int]:
    """Returns how the distributions of choices moved, by trial, the best first, and of how many that is left out."""
    moved: list[Moved] = []
    panels = left_out = 0
    for trial in best_first(every):
        curve = searched(trial)
        if not curve:
            continue
        labels = list(curve[-1]["probabilities"])
        if moved and panels + len(labels) > PANELS:
            left_out += 1
            continue
        moved.append(_moved(trial, curve))
        panels += len(labels)
    if not moved:
        raise Absent("No trial has a distribution of choices: none has ended an epoch of a one-shot search.")
    return moved, left_out


def _moved(trial: Trial, curve: Sequence[Mapping[str, Any]]) -> Moved:
    probabilities = curve[-1]["probabilities"]
    taken = {label: max(each, key=each.__getitem__) for label, each in probabilities.items()}
    for label, chosen in curve[-1].get("choices", {}).items():
        if label in taken:  # the inputs of a node are a list, of one
            taken[label] = ", ".join(map(str, chosen)) if isinstance(chosen, list) else str(chosen)
    epochs = [epoch["epoch"] for epoch in curve]
    groups = []
    drawn = 0
    for group in with_common_candidates(probabilities):
        candidates = list(dict.fromkeys(name for each in group.values() for name in each))
        looks = {name: look_of(place, name) for place, name in enumerate(candidates)}
        key = [Line(name, (), (), *looks[name]) for name in candidates]
        plots = []
        for label, last in group.items():
            if drawn == PANELS:
                break
            lines = [
                Line(
                    name,
                    epochs,
                    [epoch["probabilities"].get(label, {}).get(name, math.nan) for epoch in curve],
                    *looks[name],
                )
                for name in last
            ]
            said = ", ".join(f"{name} {100 * share:.0f} %" for name, share in last.items())
            words = f"Probability of each candidate of {label} by epoch; after the last one: {said}"
            plots.append((label, taken[label], by_epoch(f"t{trial.number}-c{drawn}", words, lines, "", share=True)))
            drawn += 1
        groups.append((key, plots))
    return Moved(trial, groups, ranked(probabilities, taken), len(probabilities) - drawn)


def ranked(probabilities: Mapping[str, Mapping[str, float]], taken: Mapping[str, str]) -> list:
    """Returns the tables of :func:`experiment.results.ranking.ranking` as texts, see :attr:`Moved.ranking`."""
    tables = []
    for group in with_common_candidates(probabilities):
        candidates = list(dict.fromkeys(name for each in group.values() for name in each))
        rows = []
        for label, each in group.items():
            best, *others = sorted(each, key=each.__getitem__, reverse=True)
            row = [(f"{100 * each[name]:.1f}" if name in each else "", name == taken[label]) for name in candidates]
            rows.append((label, row, f"{100 * (each[best] - each[others[0]]):.1f}" if others else "–"))
        tables.append((candidates, rows))
    return tables


@dataclass(frozen=True)
class Trainings:
    plot: Markup
    key: list[tuple[str, str, str]]
    """Name, colour and mark of each group of points."""
    score: float | None
    """The score of the best trial."""
    accuracy: float | None
    """The mean test accuracy of its architecture, trained from new weights."""
    number: int
    """Number of these trainings."""


def trainings(experiment: Experiment) -> Trainings:
    """Returns how the accuracies go together by which architectures are chosen and judged."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for file in sorted((experiment.folder / "comparison").glob(f"*/{RESULT}")):
        result = json.loads(file.read_text())
        name = file.parent.name.partition("-")[0]
        groups.setdefault({"mcan": "MCAN"}.get(name, name), []).append((result["val"], result["overall"]))
    if not groups:
        raise Absent("No architecture has been trained from new weights yet.")
    found = fmean(test for _, test in groups["found"]) if "found" in groups else None
    best = score(best_first(experiment.trials)[0]) if experiment.trials else None
    points = {f"{name}, trained from new weights": each for name, each in groups.items()}
    if found is not None and best is not None:
        points["found: the trial's score"] = [(best, found)]
    said = "; ".join(f"{name}: {', '.join(f'{x:.1f} and {y:.1f}' for x, y in each)}" for name, each in points.items())
    plot = scatter("trainings", f"Validation and test accuracy in percent. {said}", list(points.items()))
    key = [(name, SERIES[place % len(SERIES)], MARKS[place % len(MARKS)]) for place, name in enumerate(points)]
    return Trainings(plot, key, best, found, len(groups.get("found", ())))


def failures(every: Sequence[Trial]) -> list[tuple[Trial, str, str]]:
    """Returns the trials that failed: why, and the last lines of what they wrote to their standard error."""
    failed = []
    for trial in every:
        if trial.failed:
            lines = [line[:LETTERS] for line in stderr(trial).splitlines() if line.strip()]
            failed.append((trial, without_places(why(trial)), without_places("\n".join(lines[-LAST_LINES:]))))
    return failed[-ROWS:]
