"""A folder holds one run."""

import json
from pathlib import Path

from model_space.errors import InputError
from model_space.files import write_text

RUN = "run.json"
"""The file that says what the run of a folder was started with: only the same is resumed."""


def same_run(folder: Path, run: dict, note: bool) -> None:
    """Makes sure that a folder is used for one run alone.

    Args:
        folder: The folder of the run. It is made if it is not there.
        run: What the run is started with, by section.
        note: Whether this process notes it in the folder, as the first of several does.

    Raises:
        InputError: The folder was used for another run, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: no folder can be made there: {error.strerror}") from None
    path = folder / RUN
    if not path.exists():
        if note:
            write_text(path, json.dumps(run, indent=1) + "\n")
        return
    before = json.loads(path.read_text())
    for section, values in run.items():
        if before.get(section) != values:
            raise InputError(
                f"{folder}: holds a run with another '{section}' (see {RUN}); give another folder, or delete it"
            )
