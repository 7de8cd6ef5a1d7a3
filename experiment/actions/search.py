"""``launch.py`` without an action: the whole search, from data to comparison. What is done is not done again."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from experiment.actions import report as page
from experiment.actions.export import best, write
from experiment.actions.report import COMPARISON, RESULTS
from experiment.manager import control, loopback, records
from experiment.manager.configuration import Configuration, read_configuration
from experiment.manager.follow import follow as follow_experiment
from experiment.manager.follow import reason
from experiment.manager.process import portal
from experiment.results.comparison import Result, Training, best_random, by_question, compare, interval, rivals
from experiment.results.curves import draw_curves
from experiment.results.health import in_words
from experiment.results.ranking import ranking
from experiment.results.report import Difference, Evaluated, save, table, verdict
from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture
from model_space.errors import InputError, one_line
from trainer.callbacks.curve import read_curve
from trainer.data.questions import UNTYPED, read_annotations
from trainer.data.splits import make_data
from trainer.data.vectors import load_pipeline
from trainer.evaluation.vqa_accuracy import Evaluator, most_frequent_answer, most_frequent_answer_of_form
from trainer.supernet.health import diagnosis

SAID = {"loss": "loss", "temperature": "temp.", "entropy": "entropy", "idle": "idle"}
"""What the progress bar shows of the last epoch beside the accuracy: key → a word that lets it fit 80 columns."""


def run(console: Console, *, config: Path, port: int | None = None) -> None:
    """Searches as a configuration says, under NNI's manager, and compares what was found.

    Args:
        console: Where everything is shown.
        config: Configuration file of the experiment.
        port: Port of NNI's portal; None for the first free one.

    Raises:
        InputError: The configuration, the settings or the data are wrong.
        SearchFailed: All trials failed, or the manager did.
    """
    configuration = read_configuration(config)
    settings = read_settings(configuration.settings_file)
    make_data(settings.data)
    console.print(f"data: {settings.data.train_parts[0].questions.parent}", markup=False)
    if settings.data.word_vectors:
        load_pipeline(settings.data.word_vectors)  # what is wrong with it is said before any trial starts
    folder = search(console, configuration, port)
    experiment = records.read(folder)
    RESULTS.mkdir(exist_ok=True)
    draw_curves(experiment.trials, RESULTS / "curves.svg")
    console.print(f"curves of the trials: {RESULTS / 'curves.svg'}")
    found = best(configuration.working_directory, folder.name)
    write(console, found, experiment.trials, Path("architecture.json"))
    for trial in experiment.trials:
        curve = read_curve(trial.folder / "search")
        if not curve or "probabilities" not in curve[-1]:
            continue  # it trained one architecture, or nothing
        if trial.id == found.provenance["trial"]:
            console.print(f"trial {trial.number} in the end:", ranking(curve[-1]["probabilities"]))
            console.print(in_words(curve[-1]), highlight=False)
        if warning := diagnosis(curve):
            console.print(f"[yellow]trial {trial.number}:[/yellow] {warning}")
    report(console, found, settings, folder / "comparison")
    provenances = [json.loads(trial.final["architecture"])["provenance"] for trial in experiment.trials if trial.final]
    console.print("cost of the search:", cost(provenances), "trials", highlight=False)
    write_page(console, folder, config)


def write_page(console: Console, folder: Path, config: Path) -> None:
    """Writes the page on the search, or says why it could not: the search has ended well, whatever is wrong with it."""
    try:
        page.write(console, folder, config)
    except Exception as error:
        console.print(f"the report could not be written (python launch.py --report): {one_line(error)}", markup=False)


def cost(runs: Sequence[dict[str, Any]]) -> str:
    """Returns what trials or trainings took, in words. The processor's time is the same beside other load."""
    counted = [each for each in runs if "cpu_seconds" in each]  # trials of older versions do not say it
    clock, processor = (sum(each[key] for each in counted) for key in ("seconds", "cpu_seconds"))
    return f"{clock:.0f} s, {processor:.0f} s of the processor, in {len(counted)}"


def search(console: Console, configuration: Configuration, port: int | None) -> Path:
    """Starts the experiment, or resumes the latest one of this configuration, and stays with it to its end.

    Returns:
        The folder of the experiment.
    """
    folder = latest(configuration)
    if folder:
        experiment = records.read(folder)
        if experiment.finished and any(trial.final for trial in experiment.trials):
            console.print(f"experiment {folder.name} has finished already; delete {folder} to search anew")
            return folder
    if folder and portal(folder):
        console.print(f"experiment {folder.name} is running")
    elif folder:
        console.print(f"experiment {folder.name} was interrupted; it resumes")
        folder = control.resume(folder, port)
    else:
        folder = control.start(configuration, port)
        console.print(f"experiment {folder.name} started")
    with control.held(folder):
        console.print(f"NNI's portal while it runs: {portal(folder)}")
        if warning := loopback.warning():
            console.print(warning, style="bold red")
        follow(console, folder)
    console.print(f"experiment {folder.name} has finished; NNI shows it again with: nnictl view {folder.name}")
    return folder


def latest(configuration: Configuration) -> Path | None:
    """Returns the folder of the latest experiment, if it is one of this configuration."""
    try:
        folder = records.find(configuration.working_directory)
    except InputError:
        return None
    return folder if configuration.describes(records.read(folder).config) else None


def progress_bars(console: Console) -> Progress:
    columns = [TextColumn("{task.description}"), BarColumn(6), MofNCompleteColumn(), TextColumn("{task.fields[says]}")]
    return Progress(*columns, TimeElapsedColumn(), console=console)


def says(curve: Sequence[dict[str, Any]], accuracy: str) -> str:
    """Returns what matters of the last epoch, in words for a progress bar."""
    if not curve:
        return "starting"
    last = curve[-1]
    return " ".join(
        [f"{last[accuracy]:.1f} %", *(f"{word} {last[key]:.2f}" for key, word in SAID.items() if key in last)]
    )


def follow(console: Console, folder: Path) -> None:
    """Shows the trials as they run, and says at once why one fails."""
    tasks: dict[str, TaskID] = {}
    failed: set[str] = set()
    with progress_bars(console) as progress:
        for experiment in follow_experiment(folder):
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
                    console.print(f"[red]trial {trial.number} failed:[/red]", reason(trial))


def report(console: Console, found: Architecture, settings: Settings, folder: Path) -> None:
    """Trains the found architecture and its rivals, and prints the table."""
    networks = rivals(found, settings.train.seed, settings.compare.random)
    rows = baselines(settings)
    results = train_all(console, networks, settings, folder)
    seeds = [settings.train.seed + i for i in range(settings.compare.trainings)]
    layers = networks["mcan"].space.backbone.model_dump()["layers"]
    names = {
        best_random(results): f"best of {settings.compare.random} random",
        "mcan": f"MCAN, {layers} layer{'s' if layers > 1 else ''}",
        "found": "found architecture",
    }
    trainings = {name: [Training(name, seed) for seed in seeds] for name in names}
    evaluated = {name: evaluated_of(names[name], [results[each] for each in trainings[name]]) for name in names}
    accuracies = {name: by_question(trainings[name], folder) for name in names}
    ours = evaluated.pop("found")
    differences = [
        Difference(row, ours.overall - row.overall, interval(accuracies["found"], accuracies[name]))
        for name, row in reversed(evaluated.items())
    ]
    rows += [*evaluated.values(), ours]
    questions = accuracies["found"].shape[1]
    conclusion = verdict(ours, differences, questions, len(seeds))
    save(rows, questions, differences, conclusion, folder.parent.name, COMPARISON, settings.data.accuracy)
    console.print(table(rows, questions, settings.data.accuracy))
    console.print(conclusion, f"\n{questions} questions of {settings.data.final.questions}")
    console.print(f"table: {COMPARISON}.md, {COMPARISON}.json")
    once = [results[each] for each in results if each.name.startswith("random") and each.seed == seeds[0]]
    console.print("cost of random search:", cost(once), "trainings", highlight=False)


def train_all(
    console: Console, networks: dict[str, Architecture], settings: Settings, folder: Path
) -> dict[Training, Result]:
    """Trains random search's architectures once each, and the networks of the table as often as the settings say."""
    first, *others = (settings.train.seed + i for i in range(settings.compare.trainings))
    trainings = [Training(name, first) for name in networks]
    trainings += [Training(name, seed) for seed in others for name in ("mcan", "found")]
    console.print(f"{len(trainings) + len(others)} trainings from new weights (checkpoints in {folder})")
    with progress_bars(console) as progress:
        task = progress.add_task("trainings", total=len(trainings) + len(others), says="")
        done = 0

        def watch(curves: dict[Training, list]) -> None:
            finished = sum(len(curve) == settings.train.epochs for curve in curves.values())
            running = {each: curve for each, curve in curves.items() if 0 < len(curve) < settings.train.epochs}
            said = "; ".join(f"{each}: {says(curve, 'accuracy')}" for each, curve in running.items())
            progress.update(task, completed=done + finished, says=said)

        results = compare(networks, trainings, settings, folder, watch)
        done = len(trainings)
        again = [Training(best_random(results), seed) for seed in others]
        return results | compare(networks, again, settings, folder, watch)


def baselines(settings: Settings) -> list[Evaluated]:
    """Returns the accuracies of the answers that no network is needed for."""
    assert settings.data.final.annotations  # else the search would not have started
    annotations = read_annotations(settings.data.final.annotations)
    paths = [part.annotations for part in settings.data.train_parts]
    training = [each for path in paths if path for each in read_annotations(path)]
    evaluator = Evaluator(annotations, settings.data.accuracy)
    answers = {"most frequent answer": most_frequent_answer(training, annotations)}
    if any(each["question_type"] != UNTYPED for each in annotations):
        answers["most frequent of form"] = most_frequent_answer_of_form(training, annotations)
    accuracies = {name: evaluator(each) for name, each in answers.items()}
    return [Evaluated(name, each.overall, each.per_answer_type) for name, each in accuracies.items()]


def evaluated_of(name: str, results: Sequence[Result]) -> Evaluated:
    """Returns the row of a network: the means over its trainings."""
    overall = [result["overall"] for result in results]
    return Evaluated(
        name,
        fmean(overall),
        {kind: fmean(each["per_answer_type"][kind] for each in results) for kind in results[0]["per_answer_type"]},
        results[0]["parameters"],
        fmean(result["seconds"] for result in results),
        stdev(overall) if len(overall) > 1 else None,
    )
