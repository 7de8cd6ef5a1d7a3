"""Where the features of a split are: in a folder of ``.npz`` files, or in a packed file beside it."""

from pathlib import Path

from model_space.errors import InputError

PACKED = ".safetensors"
"""The suffix of a packed file."""
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".tsv")
"""Endings of files that can only be read from beginning to end, and so have to be packed first."""
NOT_READ = {
    (".h5", ".hdf5"): "HDF5, whose image ids are in a pickle, which could run anything",
    (".mdb", ".lmdb"): "LMDB, whose values are pickles or of a form of one's own",
    (".pkl", ".pickle", ".pth", ".pt", ".npy"): "not a form that says which features are whose without running code",
    (".zip", ".rar", ".7z", ".bz2", ".xz", ".zst"): "an archive of another kind",
}
"""Endings of files that are refused, and why."""


def readable(path: Path) -> Path:
    """Returns what is read for a path of the settings: the packed file beside it if there is one, else the path itself.

    Raises:
        InputError: If the path is a file that has to be packed first, or a file in a form that is not read.
    """
    packed = packed_path(path)
    if packed.is_file():
        return packed
    if path.name.endswith(ARCHIVES) and path.is_file():
        raise InputError(f"{path}: can be read in order only: make {packed.name} of it with launch.py --pack SETTINGS")
    refuse_unknown(path)
    return path


def packed_path(path: Path) -> Path:
    """Returns where the packed form of a folder or an archive is: beside it.

    Example:
        >>> packed_path(Path("train2014.tar.gz")).name
        'train2014.safetensors'
    """
    if path.suffix == PACKED:
        return path
    ending = next((ending for ending in ARCHIVES if path.name.endswith(ending)), "")
    return path.with_name(path.name.removesuffix(ending) + PACKED)


def refuse_unknown(path: Path) -> None:
    """Refuses a file in a known form that is not read.

    Raises:
        InputError: If the file exists and its name has one of the endings of :data:`NOT_READ`.
    """
    for endings, form in NOT_READ.items():
        if path.name.endswith(endings) and path.exists():
            raise InputError(
                f"{path}: features in {form}: not read; expected a folder of .npz, or with launch.py --pack a .tar or "
                ".tar.gz of them or bottom-up attention's .tsv"
            )
