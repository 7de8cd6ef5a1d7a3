"""What the pictures of a search for TensorBoard cost, beside an epoch of the search.

    python -m benchmarks.board settings/digits.yml settings/recurrent.yml      # --steps 2: a quick look

Each search takes three epochs of its settings and derives no architecture by validation. The seconds are those of the
processor, as other work beside leaves them; the kilobytes are those of the largest image.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from time import process_time

from rich.console import Console
from rich.table import Table

from experiment.results.board import pictures
from experiment.settings import read_settings
from trainer.callbacks.curve import Epoch
from trainer.callbacks.tensorboard import Pictures
from trainer.data.splits import load_data
from trainer.search import search

EPOCHS = 3


def measure(file: str, steps: int | None) -> tuple[list[float], dict[str, list[float]], dict[str, int]]:
    """Returns the seconds of each epoch, and by tag the seconds of each picture and the bytes of the largest."""
    settings = read_settings(file)
    data = load_data(settings.data)
    space = settings.space_for(data.sizes)
    drawn: Pictures = pictures(space)
    seconds: dict[str, list[float]] = {tag: [] for tag in drawn}
    sizes = dict.fromkeys(drawn, 0)

    def timed(tag: str) -> Callable[[Sequence[Epoch]], bytes | None]:
        def draw(curve: Sequence[Epoch]) -> bytes | None:
            start = process_time()
            png = drawn[tag](curve)
            seconds[tag].append(process_time() - start)
            sizes[tag] = max(sizes[tag], len(png or b""))
            return png

        return draw

    ends = [process_time()]
    few = {"epochs": EPOCHS, "samples": 0, "decay_epochs": ()} | ({"steps_per_epoch": steps} if steps else {})
    with tempfile.TemporaryDirectory() as folder:
        search(
            data,
            space,
            settings.search.model_copy(update=few),
            Path(folder),
            lambda epoch: ends.append(process_time()),
            {tag: timed(tag) for tag in drawn},
        )
    return [end - start for start, end in pairwise(ends)], seconds, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--steps", type=int, help="of an epoch, in place of those of the settings")
    args = parser.parse_args()
    table = Table("settings", "epoch, s", "pictures, s an epoch", "share, %", "largest image, kB")
    for file in args.settings:
        epochs, seconds, sizes = measure(file, args.steps)
        epoch, drawing = min(epochs), max(map(sum, zip(*seconds.values())))  # at the worst
        share, largest = 100 * drawing / epoch, max(sizes.values()) / 1000
        table.add_row(Path(file).stem, f"{epoch:.1f}", f"{drawing:.3f}", f"{share:.2f}", f"{largest:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
