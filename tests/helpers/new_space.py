"""Uses the space of docs/spaces.md's recipe in every way, as a process in a copy of the project.

python -m tests.helpers.new_space NAME FOLDER
"""

import sys
from pathlib import Path

from rich.console import Console

from experiment.actions.spaces import all_listings, table
from experiment.results.drawing import save_svg, text
from experiment.settings import read_settings
from model_space.architecture import Architecture
from tests.helpers.searching import ignore, short_search
from tests.helpers.tiny import tiny_batch
from tests.helpers.tiny_vqa import tiny_splits
from tests.helpers.trained import settings_file
from trainer.data.splits import load_data
from trainer.search import search


def main(name: str, folder: Path) -> None:
    data = tiny_splits(folder)
    settings = read_settings(settings_file(folder / "settings.yml", data, name=name))
    assert settings.space.name == name

    loaded = load_data(data)
    space = settings.space_for(loaded.sizes)
    found = search(loaded, space, short_search(epochs=1, steps_per_epoch=2), folder / "search", ignore)
    found.save(folder / "architecture.json")
    frozen = Architecture.load(folder / "architecture.json")
    assert (frozen.space, frozen.choices) == (space, found.choices)
    assert frozen.for_data(loaded.sizes).network().double()(*tiny_batch()).isfinite().all()

    save_svg(frozen, folder / "architecture.svg")
    listing = next(listing for listing in all_listings() if listing.name == name)
    Console(width=100).print(text(frozen), table([listing]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
