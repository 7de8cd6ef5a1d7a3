"""Searches, exports, trains and evaluates networks that answer questions about images.

Without an action: the whole search of an NNI experiment, to the table that compares what it found.
"""

import argparse
import sys
from io import TextIOWrapper
from pathlib import Path

TAKEN_BY = {
    "config": ("search", "export"),
    "experiment": ("export",),
    "port": ("search",),
    "settings": ("train", "val", "test", "answer", "export_onnx", "profile"),
    "architecture": ("val", "test", "answer", "export_onnx"),
    "output": ("test", "answer"),
    "save_predictions": ("test",),
    "image": ("answer",),
    "question": ("answer",),
    "picture": ("answer",),
    "folder": ("train",),
}
"""option → actions that it is for; without an action it is a search"""
GOES_ON = ("search", "train", "pack")
"""what goes on where it was interrupted"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="%(prog)s [ACTION] [OPTIONS]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--export",
        nargs="?",
        const=Path("architecture.json"),
        type=Path,
        metavar="FILE",
        help="write the best architecture of an experiment, running or not (architecture.json)",
    )
    action.add_argument(
        "--train",
        type=Path,
        metavar="ARCHITECTURE",
        help="train the network of an architecture file, also of mmnas and NAS-VQA, or of a name (mmnasnet_vqa)",
    )
    action.add_argument("--val", type=Path, metavar="CHECKPOINT", help="the accuracy of a trained or published network")
    action.add_argument(
        "--test",
        type=Path,
        nargs="+",
        metavar="CHECKPOINT",
        help="answers to the test split, as EvalAI takes them; several are averaged",
    )
    action.add_argument(
        "--answer", type=Path, metavar="CHECKPOINT", help="the answer to --question about --image, and where it looks"
    )
    action.add_argument(
        "--export-onnx", type=Path, nargs=2, metavar=("CHECKPOINT", "FILE"), help="a network as an ONNX file"
    )
    action.add_argument("--check", type=Path, metavar="SETTINGS", help="all that is wrong with the data they name")
    action.add_argument("--pack", type=Path, metavar="SETTINGS", help="features into one mapped file a folder")
    action.add_argument("--plan", type=Path, metavar="SETTINGS", help="what they take here: memory, disk, time")
    action.add_argument("--profile", action="store_true", help="where the time of a step of the search goes")
    action.add_argument("--spaces", action="store_true", help="list all spaces and networks with their size and cost")
    parser.add_argument("--config", type=Path, default=Path("config.yml"), help="the NNI experiment (config.yml)")
    parser.add_argument("--experiment", metavar="ID", help="with --export: not the latest experiment, but this one")
    parser.add_argument("--port", type=int, help="of NNI's portal (the first free one from 8080 on)")
    parser.add_argument(
        "--settings",
        type=Path,
        default=Path("settings/digits.yml"),
        metavar="FILE",
        help="of actions on one network (settings/digits.yml)",
    )
    parser.add_argument(
        "--architecture", type=Path, metavar="FILE", help="of a published checkpoint, if not in settings"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="of --test (runs/test.json), --answer (runs/answer.png)"
    )
    parser.add_argument("--save-predictions", type=Path, metavar="FILE", help="with --test: .safetensors, to average")
    parser.add_argument("--image", type=Path, metavar="FEATURES", help="with --answer: features of the image, .npz")
    parser.add_argument("--question", help="with --answer")
    parser.add_argument("--picture", type=Path, metavar="PHOTO", help="with --answer: the photo to draw on")
    parser.add_argument("--folder", type=Path, help="with --train: for checkpoints (runs/train/NAME)")
    args = parser.parse_args()
    if args.answer and (args.image is None or args.question is None):
        parser.error("--answer needs --image FEATURES and --question QUESTION")
    chosen = next((name for name, given in vars(args).items() if given and name not in TAKEN_BY), "search")
    for option, actions in TAKEN_BY.items():
        if chosen not in actions and getattr(args, option) != parser.get_default(option):
            named = " or ".join("a search" if each == "search" else flag(each) for each in actions)
            parser.error(f"{flag(option)} goes with {named}")
    args.action = chosen
    return args


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def main() -> None:
    args = arguments()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that does not know a letter is shown its number
            stream.reconfigure(errors="backslashreplace")
    # Not before the arguments are known to be right: torch and NNI take seconds to load.
    try:
        from experiment.start import without_collector

        with without_collector():
            from experiment import commands
            from experiment.manager.control import SearchFailed
            from model_space.errors import InputError
    except ModuleNotFoundError as error:  # such as torch; a room of this project would be a broken checkout
        if (error.name or "").split(".")[0] in ("experiment", "trainer", "model_space"):
            raise
        sys.exit(
            f"the package '{error.name}' is not installed for this Python: make search, or .venv/bin/python launch.py"
        )
    try:
        if args.export:
            commands.export(args.config, args.export, args.experiment)
        elif args.train:
            commands.train(args.train, args.settings, args.folder or Path("runs/train") / args.train.stem)
        elif args.val:
            commands.validate(args.val, args.settings, args.architecture, commands.console)
        elif args.test:
            output = args.output or Path("runs/test.json")
            commands.test(args.test, args.settings, output, args.save_predictions, commands.console, args.architecture)
        elif args.answer:
            output = args.output or Path("runs/answer.png")
            asked = args.answer, args.image, args.question, args.picture, output
            commands.answer(*asked, args.settings, commands.console, args.architecture)
        elif args.export_onnx:
            checkpoint, file = args.export_onnx
            commands.export_onnx(checkpoint, file, args.settings, commands.console, args.architecture)
        elif args.check:
            sys.exit(commands.check(args.check, commands.console))
        elif args.pack:
            commands.pack(args.pack, commands.console)
        elif args.plan:
            commands.plan(args.plan, commands.console)
        elif args.profile:
            commands.profile(args.settings, Path("runs/profile"))
        elif args.spaces:
            commands.spaces()
        else:
            commands.search(args.config, args.port)
    except InputError as error:
        sys.exit(commands.refuse(error))
    except SearchFailed as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted" + ("; the same command goes on from here" if args.action in GOES_ON else ""))


if __name__ == "__main__":
    main()
