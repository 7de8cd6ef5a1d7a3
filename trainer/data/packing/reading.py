"""Reads the images of a source ahead of what is written."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from model_space.errors import InputError
from trainer.data.features.npz import ImageFeatures
from trainer.data.packing.sources.source import Entry

READERS, AHEAD, TOGETHER = 2, 4, 16
"""Threads, tasks ahead of what is written, and images that one task reads."""


def read_images(entries: Iterator[Entry]) -> Iterator[tuple[Entry, ImageFeatures | None]]:
    """Reads all images that are not packed yet, in their order.

    Threads read the next images meanwhile, several images in one task: a task for each would cost as much as reading.

    Raises:
        InputError: If the source or one of its images is wrong.
    """
    pool = ThreadPoolExecutor(READERS)
    waiting: deque[tuple[list[Entry], Future]] = deque()
    try:
        while portion := list(islice(entries, TOGETHER)):
            waiting.append((portion, pool.submit(_read, portion)))
            if len(waiting) > AHEAD:
                yield from _results(*waiting.popleft())
        while waiting:
            yield from _results(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _read(entries: list[Entry]) -> list[ImageFeatures | InputError | None]:
    """Reads entries up to the first that is wrong."""
    images: list[ImageFeatures | InputError | None] = []
    for entry in entries:
        try:
            images.append(entry.read() if entry.read else None)
        except InputError as error:
            return [*images, error]
    return images


def _results(entries: list[Entry], images: Future) -> Iterator[tuple[Entry, ImageFeatures | None]]:
    for entry, image in zip(entries, images.result()):  # The images may be fewer: then the last one is an error.
        if isinstance(image, InputError):
            raise image
        yield entry, image
