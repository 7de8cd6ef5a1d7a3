"""The whole search: data, experiment, best architecture, comparison. What is done already is not done again."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from experiment.actions.export import best
from experiment.manager import control as manager
from experiment.manager import records
from experiment.results import drawing as draw
from experiment.results.comparison import compare, rivals
from experiment.results.curves import draw_curves
from experiment.results.ranking import ranking, unmoved
from experiment.results.report import Evaluated, save, table, verdict
from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture
from model_space.errors import InputError
from trainer.callbacks import read_curve
from trainer.data.questions import read_annotations
from trainer.data.splits import make_data
from trainer.data.vectors import load_pipeline
from trainer.evaluation.vqa_accuracy import Evaluator, most_frequent_answer, most_frequent_answer_of_form

RESULTS = Path("results")
SAID = {"loss": "loss", "temperature": "temp.", "entropy": "entropy"}
"""of the last epoch, beside the accuracy: key → what the progress bar calls it, which must fit 80 columns"""


def run(config_file: Path, port: int | None, console: Console) -> None:
    """Searches as ``config_file`` says, under NNI's manager, and compares what was found."""
    config = read_config(config_file)
    settings = read_settings(shlex.split(config["trialCommand"])[-1])
    working_directory = config_file.parent / config["experimentWorkingDirectory"]
    make_data(settings.data)
    console.print(f"data: {settings.data.train_parts[0].questions.parent}", markup=False)
    if settings.data.word_vectors:
        load_pipeline(settings.data.word_vectors)  # what is wrong with it is said before any trial starts
    folder = search(config_file, config, working_directory, port, console)
    experiment = records.read(folder)
    RESULTS.mkdir(exist_ok=True)
    draw_curves(experiment.trials, RESULTS / "curves.svg")
    console.print(f"curves of the trials: {RESULTS / 'curves.svg'}")
    found = best(working_directory, folder.name)
    write_export(found, Path("architecture.json"), console)
    for trial in experiment.trials:
        curve = read_curve(trial.folder / "search")
        if trial.id == found.provenance["trial"]:
            console.print(f"trial {trial.number} in the end:", ranking(curve[-1]["probabilities"]))
        elif curve and (warning := unmoved(curve[-1]["probabilities"])):
            console.print(f"[yellow]trial {trial.number}:[/yellow] {warning}")
    report(found, settings, folder / "comparison", console)


def read_config(file: Path) -> dict[str, Any]:
    """NNI's configuration, as far as it is needed before NNI is."""
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    for key in ("trialCommand", "experimentWorkingDirectory"):
        if not isinstance(config, dict) or not isinstance(config.get(key), str):
            raise InputError(f"{file}: '{key}' is missing, or not a text")
    return config


def search(
    config_file: Path, config: dict[str, Any], working_directory: Path, port: int | None, console: Console
) -> Path:
    """Starts the experiment, or goes on with the latest one of this configuration; stays with it to its end."""
    folder = latest(config, working_directory)
    if folder:
        experiment = records.read(folder)
        if experiment.finished and any(trial.final for trial in experiment.trials):
            console.print(f"experiment {folder.name} has finished already; delete {folder} to search anew")
            return folder
    if folder and manager.portal(folder):
        console.print(f"experiment {folder.name} is running")
    elif folder:
        console.print(f"experiment {folder.name} was interrupted; it goes on")
        folder = manager.resume(folder, port)
    else:
        folder = manager.start(config_file, port)
        console.print(f"experiment {folder.name} started")
    with manager.held(folder):
        console.print(f"NNI's portal while it runs: {manager.portal(folder)}")
        follow(folder, console)
    console.print(f"experiment {folder.name} has finished; NNI shows it again with: nnictl view {folder.name}")
    return folder


def latest(config: dict[str, Any], working_directory: Path) -> Path | None:
    """The latest experiment, if it is one of this configuration."""
    try:
        folder = records.find(working_directory)
    except InputError:
        return None
    recorded = records.read(folder).config
    same = all(recorded.get(key) == config.get(key) for key in ("searchSpace", "trialCommand", "maxTrialNumber"))
    return folder if same else None


def progress_bars(console: Console) -> Progress:
    columns = [TextColumn("{task.description}"), BarColumn(6), MofNCompleteColumn(), TextColumn("{task.fields[says]}")]
    return Progress(*columns, TimeElapsedColumn(), console=console)


def says(curve: Sequence[dict[str, Any]], accuracy: str) -> str:
    """What matters of the last epoch."""
    if not curve:
        return "starting"
    last = curve[-1]
    return " ".join(
        [f"{last[accuracy]:.1f} %", *(f"{word} {last[key]:.2f}" for key, word in SAID.items() if key in last)]
    )


def follow(folder: Path, console: Console) -> None:
    """Shows the trials as they run; says at once why one fails."""
    tasks: dict[str, TaskID] = {}
    failed: set[str] = set()
    with progress_bars(console) as progress:
        for experiment in manager.follow(folder):
            for trial in experiment.trials:
                if trial.id not in tasks:
                    console.print(f"trial {trial.number}: {', '.join(f'{k} {v}' for k, v in trial.parameters.items())}")
                    tasks[trial.id] = progress.add_task(f"trial {trial.number}", total=None, says="waiting")
                epochs = trial.curve[-1]["epochs"] if trial.curve else None
                progress.update(
                    tasks[trial.id],
                    completed=len(trial.curve),
                    total=epochs,
                    says=trial.state.lower() if trial.failed else says(trial.curve, "default"),
                )
                if trial.failed and trial.id not in failed:
                    failed.add(trial.id)
                    console.print(f"[red]trial {trial.number} failed:[/red]", manager.reason(trial))


def write_export(architecture: Architecture, path: Path, console: Console) -> None:
    """The architecture's file, its picture beside it, and the same in words."""
    architecture.save(path)
    draw.save_svg(architecture, path.with_suffix(".svg"))
    console.print(draw.text(architecture), highlight=False)
    console.print(f"architecture: {path}, drawn in {path.with_suffix('.svg')}")


def report(found: Architecture, settings: Settings, folder: Path, console: Console) -> None:
    """Trains the found architecture and its rivals, and prints the table."""
    networks = rivals(found, seed=settings.train.seed)
    layers = networks["mcan"].space.backbone.model_dump()["layers"]
    names = {"found": "found architecture", "mcan": f"MCAN, {layers} layers", "random": "random architecture"}
    console.print(f"training {', '.join(names.values())} from new weights (checkpoints in {folder})")
    with progress_bars(console) as progress:
        tasks = {name: progress.add_task(names[name], total=settings.train.epochs, says="waiting") for name in networks}

        def watch(curves: dict[str, list]) -> None:
            for name, curve in curves.items():
                progress.update(tasks[name], completed=len(curve), says=says(curve, "accuracy"))

        results = compare(networks, settings, folder, watch)
    assert settings.data.final.annotations  # else the search would not have started
    annotations = read_annotations(settings.data.final.annotations)
    paths = [part.annotations for part in settings.data.train_parts]
    training = [each for path in paths if path for each in read_annotations(path)]
    baselines = {
        "most frequent answer": most_frequent_answer(training, annotations),
        "most frequent of form": most_frequent_answer_of_form(training, annotations),
    }
    rows = []
    evaluator = Evaluator(annotations, settings.data.accuracy)
    for name, answers in baselines.items():
        accuracy = evaluator(answers)
        rows.append(Evaluated(name, accuracy.overall, accuracy.per_answer_type))
    evaluated = {name: Evaluated(names[name], **result) for name, result in results.items()}
    rows += [evaluated["random"], evaluated["mcan"], evaluated["found"]]
    conclusion = verdict(evaluated["found"], [evaluated["mcan"], evaluated["random"]], len(annotations))
    save(rows, len(annotations), conclusion, RESULTS / "comparison")
    console.print(table(rows, len(annotations)))
    console.print(conclusion, f"\n{len(annotations)} questions of {settings.data.final.questions}")
    console.print(f"table: {RESULTS / 'comparison.md'}, {RESULTS / 'comparison.json'}")
