"""Answers to the questions of the test split, by one network or several, in the form that the challenge takes."""

from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiment.networks import load_network
from experiment.results.accuracy import show
from experiment.settings import read_settings
from model_space.errors import InputError
from model_space.files import check_writable
from model_space.network import Network
from trainer.data.questions import read_annotations, read_questions
from trainer.data.splits import load_split, make_data
from trainer.data.vocabulary import Vocabulary
from trainer.data.vqa import VQADataset
from trainer.evaluation.predictions import SUFFIX, SavedPredictions, ensemble, saving
from trainer.evaluation.submission import write_submission
from trainer.evaluation.vqa_accuracy import Evaluator


def run(
    console: Console,
    sources: list[Path],
    *,
    settings: Path,
    output: Path | None = None,
    save_predictions: Path | None = None,
    architecture: Path | None = None,
) -> None:
    """Writes the answer to every question of ``data.test``; prints the accuracy where the answers are known.

    Args:
        console: Where results are printed.
        sources: Checkpoints, model folders, or files of predictions (``.safetensors``) that this wrote for networks
            with the same answers. Several are an ensemble, whose probabilities are averaged.
        settings: Settings file that names the test split.
        output: Where the answers are written; None for ``runs/test.json``.
        save_predictions: Where the probabilities are written; None where they are not.
        architecture: The architecture of published checkpoints, if not in the settings.

    Raises:
        InputError: The settings name no test split; the sources do not have the same answers, or the networks not the
            same words; something does not fit the data; a file cannot be written.
    """
    output = output or Path("runs/test.json")
    read = read_settings(settings)
    data, split = read.data, read.data.test
    if split is None:
        raise InputError(f"{settings}: data.test is missing: the questions and features to be answered")
    if save_predictions is not None and save_predictions.suffix != SUFFIX:
        raise InputError(f"{save_predictions}: a file of predictions is called so: {save_predictions.stem}{SUFFIX}")
    for written in filter(None, (output, save_predictions)):
        check_writable(written)
    saved = [SavedPredictions.load(path) for path in sources if path.suffix == SUFFIX]
    checkpoints = [path for path in sources if path.suffix != SUFFIX]
    loaded = [load_network(console, path, read, architecture) for path in checkpoints]
    networks, vocabularies = [each.network for each in loaded], [each.vocabulary for each in loaded]
    for path, each in zip(checkpoints, loaded, strict=True):
        if each.data != (data := loaded[0].data):
            raise InputError(
                f"{path}: reads {each.data.max_tokens} words and {each.data.max_regions} regions, and {checkpoints[0]} "
                f"{data.max_tokens} and {data.max_regions}: save the predictions of each (--save-predictions)"
            )
    answers = same_answers(checkpoints, vocabularies, saved)
    make_data(data)
    dataset = None
    if networks:
        dataset = load_split(data, split, vocabularies[0])
        for each in loaded:
            each.check_features(dataset.feature_size, dataset.extractor, str(split.features))
        question_ids = list(dataset.question_ids)
    else:
        question_ids = [question["question_id"] for question in read_questions(split.questions)]

    best = best_answers(console, networks, saved, question_ids, dataset, answers, save_predictions)
    write_submission(output, question_ids, best)
    if split.annotations is not None:
        evaluator = Evaluator(read_annotations(split.annotations), data.accuracy)
        show(console, evaluator(dict(zip(question_ids, best, strict=True))), data.accuracy, split.questions)
    if save_predictions:
        console.print(f"probabilities: {save_predictions}", markup=False)
    console.print(f"answers to {len(question_ids)} questions: {output}", markup=False)


def best_answers(
    console: Console,
    networks: list[Network],
    saved: list[SavedPredictions],
    question_ids: list[int],
    dataset: VQADataset | None,
    answers: tuple[str, ...],
    save_predictions: Path | None,
) -> list[str]:
    """Returns the most probable answer to each question, and saves all probabilities where that is asked for."""
    best = [""] * len(question_ids)  # the file is refused where a question is left out
    keep = saving(save_predictions, question_ids, answers) if save_predictions else nullcontext()
    with progress_of(console) as progress, keep as matrix:
        task = progress.add_task("questions", total=len(question_ids))
        for places, probabilities in ensemble(networks, saved, question_ids, dataset):
            for place, index in zip(places, probabilities.argmax(1).tolist(), strict=True):
                best[place] = answers[index]
            if matrix is not None:
                matrix[places] = probabilities.numpy()
            progress.advance(task, len(places))
    return best


def same_answers(
    checkpoints: list[Path], vocabularies: list[Vocabulary], saved: list[SavedPredictions]
) -> tuple[str, ...]:
    """Returns the answers that all sources have.

    Raises:
        InputError: Two sources have other answers or another order of them, or two networks have other words.
    """
    paths = [*checkpoints, *(each.path for each in saved)]
    answers, *others = [*(vocabulary.answers for vocabulary in vocabularies), *(each.answers for each in saved)]
    for path, theirs in zip(paths[1:], others, strict=True):
        if theirs != answers:
            raise InputError(
                f"{path}: its {len(theirs)} answers are not the {len(answers)} of {paths[0]}: only networks with the "
                "same answers in the same order can be averaged"
            )
    for path, vocabulary in zip(checkpoints[1:], vocabularies[1:], strict=True):
        if vocabulary.words != vocabularies[0].words:
            raise InputError(
                f"{path}: has other words than {paths[0]}: save the predictions of each (--save-predictions), and "
                "give these files in place of the checkpoints"
            )
    return answers


def progress_of(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True)
