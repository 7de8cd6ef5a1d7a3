"""Opens a source of features, whatever form it has."""

from collections.abc import Callable
from pathlib import Path

from model_space.errors import InputError
from trainer.data.features.npz import NpzForm
from trainer.data.features.paths import EXPECTED, ending_of, refuse_unknown
from trainer.data.packing.sources.files import open_npz_folder
from trainer.data.packing.sources.hdf5 import open_hdf5
from trainer.data.packing.sources.mmf import open_lmdb, open_npy_folder
from trainer.data.packing.sources.pth import open_pth_folder
from trainer.data.packing.sources.source import Source
from trainer.data.packing.sources.tar import open_tar
from trainer.data.packing.sources.tsv import open_tsv

FOLDERS: dict[str, Callable[[Path, NpzForm], Source]] = {
    ".npz": open_npz_folder,
    ".pth": open_pth_folder,
    ".npy": open_npy_folder,
    ".lmdb": open_lmdb,
}
"""What opens a folder, by what is in it."""
FILES: dict[str, Callable[[Path, NpzForm], Source]] = {
    **dict.fromkeys((".tar.gz", ".tgz", ".tar"), open_tar),
    ".tsv": open_tsv,
    **dict.fromkeys((".hdf5", ".h5"), open_hdf5),
    **dict.fromkeys((".lmdb", ".mdb"), open_lmdb),
}
"""What opens a file, by its ending."""


def open_source(path: Path, form: NpzForm) -> Source:
    """Opens a source.

    Args:
        path: A folder or a file of one of the forms.
        form: What is in ``.npz`` files, and whether mmf's features have boxes.

    Raises:
        InputError: If it has another form, or is wrong.
    """
    refuse_unknown(path)
    ending = ending_of(path)
    known = FOLDERS if path.is_dir() else FILES
    if ending not in known or not path.exists():
        raise InputError(f"{path}: cannot be packed: expected {EXPECTED}")
    return known[ending](path, form)
