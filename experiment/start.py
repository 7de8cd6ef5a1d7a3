"""A faster start of a process: what is imported and read then is there to stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Keeps Python from looking for cycles of objects that nothing refers to, as long as the block lasts.

    Imports and data make millions of objects that stay, and each search for such cycles would go through all of them.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
