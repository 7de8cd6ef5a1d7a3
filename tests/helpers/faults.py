"""Faults by the hundred: processes killed at random moments, and files that are broken at random places.

    make faults                                   # minutes; prints the seed, and what was tried, survived and lost
    python -m tests.helpers.faults --kills 8 --broken 20  # a quick look

A run that is killed has to go on and end with the bytes of one that was not. A broken file has to be refused in one
line, or, where it can still be read, to be taken; where a checksum tells, what is taken has to be what was written.
"""

import argparse
import csv
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from nni.tools.nnictl.config_utils import Experiments
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiment.manager import control, records
from experiment.manager.configuration import read_configuration
from experiment.manager.follow import follow
from experiment.manager.process import find_manager
from experiment.settings import read_settings
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.experiments import check_trials, fake, processes, start, write_config
from tests.helpers.kill import difference, killed
from tests.helpers.tiny import space_of, tiny_space
from tests.helpers.tiny_vqa import tiny_splits
from tests.helpers.trained import settings_file, trained
from trainer.callbacks.checkpoint import load_checkpoint
from trainer.data.features.npz import read_npz
from trainer.data.features.packed import packed_arrays, verify
from trainer.data.packing import partial_file
from trainer.data.packing.pack import pack
from trainer.data.questions import read_annotations, read_questions
from trainer.data.splits import load_data
from trainer.evaluation.predictions import SavedPredictions, saving
from trainer.train import load_trained

LONGEST = 1000
"""The letters of a line that somebody reads."""
PATIENCE = 30.0
"""Seconds after which a file that is read counts as one at which the reader hangs."""


class Count(NamedTuple):
    """What became of one kind of fault."""

    fault: str
    tried: int
    survived: int
    notes: str = ""
    lost: tuple[str, ...] = ()


def forked(function: Callable[..., Any], *arguments: Any) -> int:
    """A process that runs it, quietly."""
    if child := os.fork():
        return child
    code = 1
    with suppress(BaseException):
        function(*arguments)
        code = 0
    os._exit(code)


def kill_after(child: int, seconds: float) -> bool:
    """Kills a process after so long; returns whether it was still running."""
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def trainings(folder: Path, kills: int, draw: random.Random) -> Count:
    """Trainings and searches, resumed from their checkpoints."""
    said = killed(folder, kills, draw.randrange(2**32))
    notes = f"{said['within an epoch']} within an epoch; {said['runs']} runs"
    return Count("training or search killed", said["kills"], said["kills"], notes, tuple(said["differences"]))


def packings(folder: Path, kills: int, draw: random.Random) -> Count:
    """The packing of features, resumed from its journal."""
    source, lost, done = tiny_splits(folder).train.features, [], 0
    partial_file.SYNC = 2000  # what is packed is put on the disk after every few images
    began = time.monotonic()
    whole = pack(source).read_bytes()
    seconds = time.monotonic() - began
    target = source.with_suffix(".safetensors")
    while done < kills:
        target.unlink()
        while not target.exists() and done < kills:
            done += kill_after(forked(pack, source), draw.uniform(0, seconds))
        if pack(source).read_bytes() != whole:
            lost.append(f"packed anew after {done} kills")
    return Count("packing killed", done, done - len(lost), lost=tuple(lost))


def exports(folder: Path, kills: int, draw: random.Random) -> Count:
    """A process that writes one of two architectures after the other over one file, which has to be one of the two."""
    space = tiny_space(StackedSettings(edges="one", cells=1, nodes=2))
    both = [Architecture(space=space, choices=space.random_choices(seed)) for seed in range(2)]
    file, lost = folder / "architecture.json", []

    def write_for_ever() -> None:
        while True:
            for each in both:
                each.save(file)

    both[0].save(file)
    for number in range(kills):
        kill_after(forked(write_for_ever), draw.uniform(0, 0.05))
        if Architecture.load(file) not in both:
            lost.append(f"{file} after {number + 1} kills")
    return Count("export killed", kills, kills - len(lost), lost=tuple(lost))


def experiments(folder: Path, kills: int, draw: random.Random) -> Count:
    """Experiments whose manager or one of whose trials is killed, resumed; each trial ends as an undisturbed one."""
    os.environ["HOME"] = str(folder)
    Experiments.__init__.__defaults__ = (str(folder / "nni-experiments"),)  # where NNI keeps its list of them
    done, lost, of = 0, [], Counter()
    while done < kills:
        experiment = start(write_config(folder, searchSpace=fake(seed=[0, 1])))
        while done < kills:
            time.sleep(draw.uniform(0, 3))
            if records.read(experiment).finished:
                break
            manager = find_manager(experiment)
            running = [each for each in processes(folder) if "NNI_TRIAL_JOB_ID" in each.environ()]
            victim = draw.choice([manager, *running[:1]])
            of["manager" if victim is manager else "trial"] += 1
            victim.kill()
            victim.wait(10)
            done += 1
            control.stop(experiment)
            experiment = control.resume(experiment)
        list(follow(experiment))
        control.stop(experiment)
        try:
            check_trials(experiment, folder)
        except AssertionError:
            lost.append(f"{experiment}: {traceback.format_exc(limit=1).splitlines()[-1]}")
    notes = ", ".join(f"{count} {what}s" for what, count in of.items())
    return Count("NNI's manager or a trial killed", done, done - len(lost), notes, tuple(lost))


class Form(NamedTuple):
    """A kind of file that a user brings."""

    path: Path
    read: Callable[[Path], Any]
    checked: bool
    """Whether it has a checksum, so that nothing may be taken that differs from what was written."""


def forms(folder: Path) -> dict[str, Form]:
    """Each kind of file, whole."""
    settings = tiny_splits(folder)
    data = load_data(settings)
    space = space_of(data, MCANSettings(layers=1))
    Architecture(space=space, choices={}).save(folder / "architecture.json")
    checkpoint = trained(data, folder / "trained", MCANSettings(layers=1))
    with saving(folder / "predictions.safetensors", range(40), ["yes", "no"]) as matrix:
        matrix[:] = np.random.default_rng(0).random(matrix.shape)
    with (folder / "table.csv").open("w", newline="") as file:
        rows = [(each["image_id"], each["question"], "yes|no") for each in read_questions(settings.train.questions)]
        csv.writer(file).writerows([("image", "question", "answers"), *rows])

    def packed(path: Path) -> Any:
        verify(path)
        return {name: torch.from_numpy(array.copy()) for name, array in packed_arrays(path).items()}

    def predictions(path: Path) -> Any:
        saved = SavedPredictions.load(path)
        return [list(saved.answers), torch.from_numpy(saved.question_ids.copy()), saved.probabilities.clone()]

    def features(path: Path) -> Any:
        return [torch.from_numpy(np.asarray(each)) for each in read_npz(path)]

    def table(path: Path) -> Any:
        return read_questions(path), read_annotations(path)

    def weights(path: Path) -> Any:
        load_trained(path)
        return load_checkpoint(path)

    def architecture(path: Path) -> Any:
        return Architecture.load(path).parameters()

    return {
        "settings": Form(settings_file(folder / "settings.yml", settings, name="mcan"), read_settings, False),
        "config.yml": Form(write_config(folder), read_configuration, False),
        "questions": Form(settings.train.questions, read_questions, False),
        "annotations": Form(settings.train.annotations, read_annotations, False),
        "table of questions": Form(
            folder / "table.csv", lambda path: (read_questions(path), read_annotations(path)), False
        ),
        "architecture": Form(folder / "architecture.json", architecture, False),
        "features": Form(next(settings.train.features.glob("*.npz")), features, True),
        "packed features": Form(pack(settings.val.features), packed, True),
        "checkpoint": Form(checkpoint, weights, True),
        "predictions": Form(folder / "predictions.safetensors", predictions, True),
    }


def broken(content: bytes, draw: random.Random) -> bytes:
    """Some bytes with a bit flipped, cut, with a part left out or twice, or with others in between."""
    first, second = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    way = draw.randrange(5)
    if way == 0:
        place = draw.randrange(len(content))
        return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
    if way == 1:
        return content[:first]
    if way == 2:
        return content[:first] + content[second:]
    if way == 3:
        return content[:second] + content[first:]
    return content[:first] + draw.randbytes(draw.randrange(1, 9)) + content[first:]


def files(name: str, form: Form, times: int, draw: random.Random) -> Count:
    """Files of one kind, broken. Those that are lost stay in the folder for temporary files."""
    content, whole = form.path.read_bytes(), form.read(form.path)
    refused, lost = 0, []
    for number in range(times):
        form.path.write_bytes(change := broken(content, draw))
        began = time.monotonic()
        wrong = None
        try:
            if form.checked and difference(whole, form.read(form.path)) is not None:
                wrong = "taken, and it differs"
            elif not form.checked:
                form.read(form.path)
        except InputError as error:
            refused += 1
            if "\n" in str(error) or len(str(error)) > LONGEST:
                wrong = f"refused in {len(str(error))} letters: {str(error)[:200]!r}"
        except Exception as error:
            wrong = f"{type(error).__name__}: {str(error)[:200]}"
        if time.monotonic() - began > PATIENCE:
            wrong = f"read for {time.monotonic() - began:.0f} s"
        if wrong:
            lost.append(f"{name} {number}: {wrong}")
            (Path(tempfile.gettempdir()) / f"{name} {number}").write_bytes(change)
    form.path.write_bytes(content)
    return Count(f"{name} broken", times, times - len(lost), f"{refused} refused", tuple(lost))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=240, help="kills in all, about")
    parser.add_argument("--broken", type=int, default=300, help="broken files of each kind")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    args = parser.parse_args(arguments)
    console, draw = Console(width=120), random.Random(args.seed)
    console.print(f"seed {args.seed}")
    counts = []
    shares = {trainings: 0.4, packings: 0.3, exports: 0.2, experiments: 0.1}
    with tempfile.TemporaryDirectory() as place:
        for number, (kind, share) in enumerate(shares.items()):
            (folder := Path(place, str(number))).mkdir()
            counts.append(kind(folder, max(1, round(args.kills * share)), draw))
        (folder := Path(place, "files")).mkdir()
        for name, form in track(forms(folder).items(), "broken files", console=console):
            counts.append(files(name, form, args.broken, draw))
    table = Table("fault", box=box.MARKDOWN)
    for title in ("tried", "survived", "lost"):
        table.add_column(title, justify="right")
    table.add_column("")
    for count in counts:
        table.add_row(count.fault, str(count.tried), str(count.survived), str(len(count.lost)), count.notes)
    console.print(table)
    lost = [each for count in counts for each in count.lost]
    for each in lost:
        console.print(each, markup=False)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
