"""Tables with an image a line: those of bottom-up attention, and those of LXMERT."""

import binascii
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from model_space.errors import InputError, one_line
from trainer.data.features.npz import ImageFeatures, NpzForm, image_features
from trainer.data.packing.sources.source import Entry, IsPacked, Source, image_named, stamp_of

BOTTOM_UP = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
"""The columns of https://github.com/peteanderson80/bottom-up-attention."""
LXMERT = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
"""The columns of https://github.com/airsplay/lxmert. Classes and attributes are not used."""


def open_tsv(path: Path, form: NpzForm) -> Source:
    """Opens a table, whose features and boxes are float32 in base64."""
    nbytes = path.stat().st_size
    return Source(nbytes, nbytes * 3 / 8, partial(_entries, path))


def _entries(path: Path, is_packed: IsPacked) -> Iterator[Entry]:
    """Splits lines at tabs: nothing in these files is quoted, and the csv module refuses fields as long as theirs."""
    end, columns = 0, None
    with path.open("rb") as file:
        for number, line in zip(count(1), file):
            end += len(line)
            where = f"{path}: line {number}"
            cells = line.rstrip(b"\r\n").split(b"\t")
            columns = columns or next((each for each in (BOTTOM_UP, LXMERT) if len(each) == len(cells)), None)
            if columns is None:
                raise InputError(
                    f"{where}: {len(cells)} columns, expected those of bottom-up attention ({', '.join(BOTTOM_UP)}) or "
                    f"of LXMERT ({', '.join(LXMERT)})"
                )
            if len(cells) != len(columns):
                raise InputError(f"{where}: {len(cells)} columns, expected {', '.join(columns)}")
            name = cells[0].decode(errors="replace")
            if columns is BOTTOM_UP and not name.isdecimal():
                raise InputError(f"{where}: image_id is {name[:20]!r}, expected a number")
            image_id, stamp = image_named(name, f"{where}: {columns[0]}"), stamp_of(number, len(line))
            read = None if is_packed(image_id, stamp) else partial(_parse_line, dict(zip(columns, cells)), where)
            yield Entry(where, image_id, stamp, end, read)


def _parse_line(cells: dict[str, bytes], where: str) -> ImageFeatures:
    w, h = ("img_w", "img_h") if "img_w" in cells else ("image_w", "image_h")
    try:
        width, height, regions = (np.array(float(cells[name])) for name in (w, h, "num_boxes"))
        boxes, features = (
            np.frombuffer(binascii.a2b_base64(cells[name]), np.float32).reshape(int(regions), -1)
            for name in ("boxes", "features")
        )
    except (ValueError, OverflowError) as error:  # An error of binascii is a ValueError.
        raise InputError(f"{where}: not of numbers and float32 in base64: {one_line(error)}") from None
    return image_features(
        features, boxes, width, height, where, NpzForm(transposed=True, names=("features", "boxes", w, h))
    )
