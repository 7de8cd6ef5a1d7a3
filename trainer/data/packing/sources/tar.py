"""An archive of ``.npz`` files, which is read without unpacking it."""

import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from model_space.errors import InputError, one_line
from trainer.data.features.folder import image_id_of
from trainer.data.features.npz import NpzForm, read_npz
from trainer.data.packing.sources.source import Entry, IsPacked, Source, stamp_of


def open_tar(path: Path, form: NpzForm) -> Source:
    """Opens an archive, compressed or not. Of float32, which hardly compresses, half the bytes are packed."""
    nbytes = path.stat().st_size
    return Source(nbytes, nbytes / 2, partial(_entries, path, form))


def _entries(path: Path, form: NpzForm, is_packed: IsPacked) -> Iterator[Entry]:
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # Otherwise tarfile would keep all members in memory.
                    if not member.isfile() or (image_id := image_id_of(member.name.rpartition("/")[2])) is None:
                        continue
                    where = f"{path}: {member.name}"
                    stamp = stamp_of(member.name, member.size, member.mtime)
                    read = None
                    if not is_packed(image_id, stamp) and (content := archive.extractfile(member)):
                        read = partial(read_npz, content.read(), where, form)
                    yield Entry(where, image_id, stamp, file.tell(), read)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise InputError(f"{path}: broken or cut short: {one_line(error)}") from None
