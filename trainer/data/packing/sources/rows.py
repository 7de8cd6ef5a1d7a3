"""The map beside an HDF5 file of features that says which row is whose: a pickle, or JSON of the same."""

import reprlib
from pathlib import Path

from model_space.errors import InputError
from model_space.files import read_json
from trainer.data.features.names import ImageId
from trainer.data.packing.plain_pickle import read_pickle
from trainer.data.packing.sources.source import image_named


def read_rows(path: Path) -> dict[ImageId, int]:
    """Returns the row of each image in a file ``X.hdf5``, by ``X_imgid2idx.pkl`` or ``.json`` beside it.

    Raises:
        InputError: If there is not one such map, or it is broken, or has something else in it.
    """
    ids, places = {}, [path.with_name(f"{path.stem}_imgid2idx{ending}") for ending in (".pkl", ".json")]
    there = [place for place in places if place.is_file()]
    if len(there) != 1:
        raise InputError(
            f"{path}: {'no' if not there else 'two'} maps of image ids to rows beside it: expected {places[0].name} or "
            f"{places[1].name}"
        )
    what = "a map of image ids to rows"
    if there[0] is places[1]:
        content = read_json(there[0], what)
    else:
        try:
            content = read_pickle(there[0].read_bytes(), str(there[0]))
        except OSError as error:
            raise InputError(f"{there[0]}: {what} cannot be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise InputError(f"{there[0]}: holds {type(content).__name__}, expected {what}")
    for key, row in content.items():
        where = f"{there[0]}: image {reprlib.repr(key)}"
        if not isinstance(key, int | str) or (isinstance(key, int) and key < 0):
            raise InputError(f"{where}: expected its number, or its name")
        if type(row) is not int:
            raise InputError(f"{where}: its row is of type {type(row).__name__}, expected a number")
        if (image_id := image_named(str(key), str(there[0]))) in ids:
            raise InputError(f"{where}: image {image_id} twice: expected it once")
        ids[image_id] = row
    return ids


def check_rows(ids: dict[ImageId, int], rows: int, path: Path) -> None:
    """Checks that each image has a row of its own, of so many that the file has.

    Raises:
        InputError: One has not.
    """
    taken: dict[int, ImageId] = {}
    for image_id, row in ids.items():
        if not 0 <= row < rows:
            raise InputError(
                f"{path}: row {row}, which is image {image_id}'s by the map beside it, is not there: it has the rows "
                f"0 to {rows - 1}"
            )
        if (other := taken.setdefault(row, image_id)) != image_id:
            raise InputError(f"{path}: row {row} is of two images by the map beside it: {other} and {image_id}")
