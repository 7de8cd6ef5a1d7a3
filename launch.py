"""Searches, exports, trains and evaluates networks that answer questions about images.

Without an action: the whole search of an NNI experiment, to the table that compares what it found.
"""

import argparse
import sys
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    action.add_argument(
        "--val", type=Path, metavar="CHECKPOINT", help="the official accuracy of a trained or published network"
    )
    action.add_argument("--profile", action="store_true", help="where the time of a step of the search goes")
    action.add_argument("--spaces", action="store_true", help="list all spaces and networks with their size and cost")
    parser.add_argument("--config", type=Path, default=Path("config.yml"), help="the NNI experiment (config.yml)")
    parser.add_argument("--experiment", metavar="ID", help="with --export: not the latest experiment, but this one")
    parser.add_argument("--port", type=int, help="of NNI's portal (the first free one from 8080 on)")
    parser.add_argument(
        "--settings",
        type=Path,
        default=Path("settings/digits.yml"),
        help="with --train, --val and --profile: data and training (settings/digits.yml)",
    )
    parser.add_argument(
        "--architecture", type=Path, help="with --val of a published checkpoint: what --train takes, if not in settings"
    )
    parser.add_argument("--folder", type=Path, help="with --train: for checkpoints (runs/train/NAME OF ARCHITECTURE)")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    # Not before the arguments are known to be right: torch and NNI take seconds to load.
    try:
        from experiment.start import without_collector

        with without_collector():
            from experiment import commands
            from experiment.manager import SearchFailed
            from model_space.errors import InputError
    except ModuleNotFoundError as error:  # such as torch; a room of this project would be a broken checkout
        if error.name.split(".")[0] in ("experiment", "trainer", "model_space"):
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
            commands.validate(args.val, args.settings, args.architecture)
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
        sys.exit("interrupted; the same command goes on from here")


if __name__ == "__main__":
    main()
