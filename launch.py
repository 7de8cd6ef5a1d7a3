"""Searches, exports, trains and evaluates networks that answer questions about images.

Without an action: the whole search of an NNI experiment, to the table that compares what it found.
"""

import argparse
import sys
from dataclasses import dataclass, field
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Action:
    """An action of the command line: the function ``run`` of the module of its name in ``experiment.actions``.

    ``run`` is called with a console, with the value that is given behind the action's flag, if it takes one, and with
    the options that it takes by their names.
    """

    name: str
    options: tuple[str, ...] = ()
    """Names of the options that it takes."""
    resumes: bool = False
    """Whether the same command resumes it after an interruption."""
    argument: dict[str, Any] = field(default_factory=dict)
    """What argparse is told of its value. The search has no flag."""


SEARCH = Action("search", ("config", "port"), resumes=True)
ACTIONS = (
    Action(
        "export",
        ("config", "experiment"),
        argument={"nargs": "?", "const": Path("architecture.json"), "type": Path, "metavar": "FILE"}
        | {"help": "best architecture of an experiment (architecture.json)"},
    ),
    Action(
        "report",
        ("config", "output"),
        argument={"nargs": "?", "const": True, "metavar": "ID"}
        | {"help": "what an experiment found (the latest), as one page"},
    ),
    Action(
        "train",
        ("settings", "folder"),
        resumes=True,
        argument={"type": Path, "metavar": "ARCHITECTURE"}
        | {"help": "train an architecture file, or a network by its name"},
    ),
    Action(
        "val",
        ("settings", "architecture"),
        argument={"type": Path, "metavar": "CHECKPOINT", "help": "the accuracy of a trained or published network"},
    ),
    Action(
        "test",
        ("settings", "architecture", "output", "save_predictions"),
        argument={"type": Path, "nargs": "+", "metavar": "CHECKPOINT"}
        | {"help": "answers as EvalAI takes them; several are averaged"},
    ),
    Action(
        "answer",
        ("settings", "architecture", "output", "image", "photo", "question", "picture"),
        argument={"type": Path, "metavar": "CHECKPOINT"}
        | {"help": "what it answers to --question, and where it looks"},
    ),
    Action(
        "export_onnx",
        ("settings", "architecture"),
        argument={"type": Path, "nargs": 2, "metavar": ("CHECKPOINT", "FILE"), "help": "a network as an ONNX file"},
    ),
    Action(
        "export_model",
        ("settings", "architecture"),
        argument={"type": Path, "nargs": 2, "metavar": ("CHECKPOINT", "FOLDER"), "help": "to give away, with a card"},
    ),
    Action(
        "check",
        argument={"type": Path, "metavar": "SETTINGS", "help": "all that is wrong with the data they name"},
    ),
    Action(
        "pack",
        resumes=True,
        argument={
            "type": Path,
            "metavar": "SETTINGS",
            "help": "features, or pictures', into one mapped file a folder",
        },
    ),
    Action(
        "plan",
        argument={"type": Path, "metavar": "SETTINGS", "help": "what they take here: memory, disk, time"},
    ),
    Action(
        "multi_trial",
        ("output",),
        argument={"type": Path, "metavar": "SETTINGS"} | {"help": "write an experiment with one architecture a trial"},
    ),
    Action(
        "profile",
        ("settings",),
        argument={"action": "store_true", "help": "where the time of a step of the search goes"},
    ),
    Action(
        "spaces",
        argument={"action": "store_true", "help": "list all spaces and networks with their size and cost"},
    ),
)
OPTIONS: dict[str, dict[str, Any]] = {
    "config": {"type": Path, "default": Path("config.yml"), "help": "the NNI experiment (config.yml)"},
    "experiment": {"metavar": "ID", "help": "with --export: not the latest experiment, but this one"},
    "port": {"type": int, "help": "of NNI's portal (the first free one from 8080 on)"},
    "settings": {"type": Path, "default": Path("settings/digits.yml"), "metavar": "FILE"}
    | {"help": "of actions on one network (settings/digits.yml)"},
    "architecture": {"type": Path, "metavar": "FILE", "help": "of a published checkpoint, if not in settings"},
    "output": {"type": Path, "metavar": "FILE", "help": "of --report, --test, --answer and --multi-trial"},
    "save_predictions": {"type": Path, "metavar": "FILE", "help": "with --test: .safetensors, to average"},
    "image": {"type": Path, "metavar": "FEATURES", "help": "with --answer: features of the image, .npz"},
    "photo": {"type": Path, "help": "with --answer: the image itself (data.pictures)"},
    "question": {"help": "with --answer; else they are read from the terminal"},
    "picture": {"type": Path, "metavar": "PHOTO", "help": "with --image: the photo to draw on"},
    "folder": {"type": Path, "help": "with --train: for checkpoints (runs/train/NAME)"},
}


def parse() -> tuple[Action, list[Any], dict[str, Any]]:
    """Returns the action that the command line names, its value if it takes one, and its options."""
    formatter = argparse.RawDescriptionHelpFormatter
    usage = "%(prog)s [ACTION] [OPTIONS]"
    parser = argparse.ArgumentParser(description=__doc__, usage=usage, formatter_class=formatter)
    group = parser.add_mutually_exclusive_group()
    for action in ACTIONS:
        group.add_argument(flag(action.name), **action.argument)
    for name, argument in OPTIONS.items():
        parser.add_argument(flag(name), **argument)
    given = vars(parser.parse_args())
    chosen = next((action for action in ACTIONS if given[action.name] not in (None, False)), SEARCH)
    for name in OPTIONS:
        if name not in chosen.options and given[name] != parser.get_default(name):
            takers = [flag(action.name) for action in ACTIONS if name in action.options]
            takers = ["a search"] * (name in SEARCH.options) + takers
            parser.error(f"{flag(name)} goes with {' or '.join(takers)}")
    value = given.get(chosen.name)
    return chosen, [] if value in (None, True) else [value], {name: given[name] for name in chosen.options}


def flag(name: str) -> str:
    """Returns an action or an option as it is written on the command line."""
    return "--" + name.replace("_", "-")


def main() -> None:
    action, values, options = parse()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that does not know a letter is shown its number
            stream.reconfigure(errors="backslashreplace")
    # Not before the arguments are known to be right: torch and NNI take seconds to load.
    try:
        from experiment.start import without_collector

        with without_collector():
            from rich.console import Console

            from experiment.manager.errors import SearchFailed
            from model_space.errors import InputError

            run = import_module(f"experiment.actions.{action.name}").run
    except ModuleNotFoundError as error:  # such as torch; a room of this project would be a broken checkout
        if error.name is None or error.name.split(".")[0] in ("experiment", "trainer", "model_space"):
            raise
        sys.exit(
            f"the package '{error.name}' is not installed for this Python: make search, or .venv/bin/python launch.py"
        )
    console = Console(highlight=False, soft_wrap=True)  # a path stays whole
    try:
        if code := run(console, *values, **options):
            sys.exit(code)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # what the operating system says of a file that somebody named
        if error.filename is None:
            raise
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except SearchFailed as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted" + ("; the same command resumes it" if action.resumes else ""))


if __name__ == "__main__":
    main()
