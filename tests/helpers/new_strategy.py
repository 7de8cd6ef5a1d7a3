"""Uses the strategy of docs/search.md's recipe in every way, as a process in a copy of the project.

python -m tests.helpers.new_strategy NAME FOLDER

Prints the entropy of the choices after a search by the strategy and after one by DARTS.
"""

import sys
from pathlib import Path

import pytest

from experiment.settings import read_settings
from model_space.errors import InputError
from tests.helpers.searching import Killed, ignore, killed_at
from tests.helpers.tiny import tiny_batch
from tests.helpers.tiny_vqa import tiny_splits
from tests.helpers.trained import settings_file
from trainer.callbacks.curve import read_curve
from trainer.data.splits import load_data
from trainer.search import search

SHORT = {"epochs": 2, "batch_size": 16, "architecture_lr": 0.1}


def main(name: str, folder: Path) -> None:
    data = tiny_splits(folder)
    file = settings_file(folder / "settings.yml", data, name="stacked", edges="one", cells=1, nodes=2)
    loaded = load_data(data)
    for strategy, parameters in ((name, {"entropy_weight": 100.0}), ("darts", {})):
        settings = read_settings(file).with_parameters(SHORT | {"strategy": strategy} | parameters)
        space = settings.space_for(loaded.sizes)
        whole, resumed = folder / f"{strategy} whole", folder / f"{strategy} resumed"
        found = search(loaded, space, settings.search, whole, ignore)
        assert found.for_data(loaded.sizes).network().double()(*tiny_batch()).isfinite().all()
        with pytest.raises(Killed):
            search(loaded, space, settings.search, resumed, killed_at(2))
        assert search(loaded, space, settings.search, resumed, ignore) == found
        assert read_curve(resumed) == read_curve(whole)
        print(strategy, read_curve(whole)[-1]["entropy"])

    file.write_text(file.read_text() + "search: {entropy_weight: 1.0}\n")
    with pytest.raises(InputError, match=f"entropy_weight.*'snas' has none, it is a key of {name}"):
        read_settings(file)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
