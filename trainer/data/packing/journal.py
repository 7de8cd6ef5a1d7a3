"""The journal of a packed file that is being made: which images it holds so far.

Each record ends with a checksum of its own, so that a record that was not written to its end is recognised.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

RECORD = struct.Struct("<qIIIffI")
"""The fields of a record before its boxes."""
CHECK = struct.Struct("<I")
"""The CRC-32 of a record with its boxes."""


class Record(NamedTuple):
    """An image of the packed file."""

    image_id: int
    stamp: int
    """A number that differs if the image has changed in its source."""
    regions: int
    feature_size: int
    """The number of features of a region."""
    width: float
    """The width of the image in pixels."""
    height: float
    """The height of the image in pixels."""
    crc: int
    """The CRC-32 of all regions of the packed file up to the end of this image."""
    boxes: bytes
    """Boxes (N, 4), float32."""

    @property
    def nbytes(self) -> int:
        """The bytes of the image's regions in the packed file, in float16."""
        return 2 * self.regions * self.feature_size

    def to_bytes(self) -> bytes:
        """Returns the record as it is in the journal."""
        content = RECORD.pack(*self[:-1]) + self.boxes
        return content + CHECK.pack(zlib.crc32(content))


def read_records(journal: bytes) -> Iterator[Record]:
    """Yields the records of a journal, up to the first that was not written to its end."""
    start = 0
    while start + RECORD.size <= len(journal):
        fields = RECORD.unpack_from(journal, start)
        end = start + RECORD.size + 16 * fields[2]
        if journal[end : end + CHECK.size] != CHECK.pack(zlib.crc32(journal[start:end])):
            return
        yield Record._make((*fields, journal[start + RECORD.size : end]))
        start = end + CHECK.size
