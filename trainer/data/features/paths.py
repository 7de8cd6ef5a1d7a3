"""Where the features of a split are: in a folder of ``.npz`` files, or in a packed file beside it."""

import os
from pathlib import Path, PurePath

from model_space.errors import InputError

PACKED = ".safetensors"
"""The suffix of a packed file."""
PACKED_FIRST = (".tar.gz", ".tgz", ".tar", ".tsv", ".hdf5", ".h5", ".lmdb", ".mdb")
"""Endings of files that have to be packed before they are read."""
AN_IMAGE = (".npz", ".pth", ".npy")
"""Endings of files with the features of one image. Folders of all but the first have to be packed before they are read,
too."""
EXPECTED = (
    "a folder of .npz, of .pth (grid-feats-vqa) or of .npy (mmf), or a .tar or .tar.gz of .npz, .tsv (bottom-up "
    "attention, LXMERT), .hdf5 or .h5 (bottom-up-attention-vqa) or .lmdb (mmf); all but the first are packed first"
)
"""The forms of features that are read."""
NOT_READ = {
    (*AN_IMAGE, ".pt"): "a file of one image, or in a form of one's own",
    (".pkl", ".pickle"): "not a form that says which features are whose without running code",
    (".zip", ".rar", ".7z", ".bz2", ".xz", ".zst"): "an archive of another kind",
}
"""Endings of files that are refused, and why."""


def readable(path: Path) -> Path:
    """Returns what is read for a path of the settings: the packed file beside it if there is one, else the path itself.

    Raises:
        InputError: If the path has to be packed first, or is a file in a form that is not read.
    """
    packed = packed_path(path)
    if packed.is_file():
        return packed
    if path.exists() and ending_of(path) in (*PACKED_FIRST, *AN_IMAGE[1:]):
        raise InputError(
            f"{path}: is not read as it is, but packed: make {packed.name} of it with launch.py --pack SETTINGS"
        )
    refuse_unknown(path)
    return path


def packed_path(path: Path) -> Path:
    """Returns where the packed form of a folder or a file is: beside it.

    Example:
        >>> packed_path(Path("train2014.tar.gz")).name
        'train2014.safetensors'
    """
    if path.suffix == PACKED:
        return path
    return path.with_name(path.name.removesuffix(_ending(path.name)) + PACKED)


def ending_of(path: Path) -> str:
    """Returns the ending that says what form a source has: of a file its own, if it has to be packed before it is read;
    of a folder that of the files in it, or ``.lmdb`` if it is one. A folder with any ``.npz`` is a folder of these.

    Raises:
        InputError: If a folder has files of two other forms.
    """
    if not path.is_dir():
        return _ending(path.name)
    if path.name.endswith(".lmdb") or (path / "data.mdb").is_file():
        return ".lmdb"
    first: dict[str, str] = {}
    for _, _, names in os.walk(path, followlinks=True):
        for name in names:
            first.setdefault(PurePath(name).suffix, name)
        if AN_IMAGE[0] in first:
            return AN_IMAGE[0]
    forms = [ending for ending in AN_IMAGE if ending in first]
    if len(forms) > 1:
        raise InputError(f"{path}: has files of two forms, {' and '.join(first[each] for each in forms)}: expected one")
    return forms[0] if forms else AN_IMAGE[0]


def refuse_unknown(path: Path) -> None:
    """Refuses a file in a known form that is not read.

    Raises:
        InputError: If the file exists and its name has one of the endings of :data:`NOT_READ`.
    """
    for endings, form in NOT_READ.items():
        if path.name.endswith(endings) and path.is_file():
            raise InputError(f"{path}: features in {form}: not read; expected {EXPECTED}")


def _ending(name: str) -> str:
    return next((ending for ending in PACKED_FIRST if name.endswith(ending)), "")
