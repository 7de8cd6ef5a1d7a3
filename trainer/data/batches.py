"""Which questions make a batch, and in which order the batches come.

A batch is padded to its longest row. Where the images of a batch have similar numbers of regions, little is padded.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike
from torch.utils.data import Sampler

WINDOW = 32
"""The number of batches that are sorted together. If it is smaller, there is more padding; if it is larger, the same
questions meet more often."""


class ShuffledBatches(Sampler[list[int]]):
    """Samples batches of the rows 0 to n - 1, each row once an epoch, with rows of similar lengths in a batch.

    An epoch is a random permutation, cut into windows of about :data:`WINDOW` batches. Each window is sorted by length
    and cut into batches, and the batches of all windows are shuffled, so that lengths come in a random order. If all
    lengths are equal, this is a plain shuffle.

    The order depends only on the seed and the epoch, so that a resumed run sees the same order. Lightning calls
    :meth:`set_epoch` if this is the ``sampler`` of a loader (not if it is the ``batch_sampler``). A loop of one's own
    has to call it, or every epoch has the same order.

    Args:
        lengths: The length of each row (n,).
        batch_size: The number of rows of a batch.
        seed: The random seed.
        drop_last: Whether the rows that do not fill a batch, others in each epoch, are left out; else one batch is
            smaller.

    Example:
        >>> batches = ShuffledBatches([3, 7, 3, 7], batch_size=2, seed=0)
        >>> sorted(sorted(batch) for batch in batches)
        [[0, 2], [1, 3]]
    """

    def __init__(self, lengths: ArrayLike, batch_size: int, seed: int, drop_last: bool = False):
        self.lengths = np.asarray(lengths)
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self.micro_batches, self.rank, self.processes = 1, 0, 1
        self.epoch, self.start = 0, 0

    def divide(self, micro_batches: int, rank: int = 0, processes: int = 1) -> None:
        """Gives each batch as several micro-batches, and of each of them the share of one process.

        Micro-batches and shares take every n-th row, so that they have similar lengths too.

        Args:
            micro_batches: The number of micro-batches of a batch.
            rank: The rank of this process.
            processes: The number of processes.
        """
        self.micro_batches, self.rank, self.processes = micro_batches, rank, processes

    def set_epoch(self, epoch: int, start: int | None = None) -> None:
        """Chooses the epoch.

        Args:
            epoch: The epoch, from 0.
            start: The number of its micro-batches that are left out, because an earlier run has had them. If it is not
                given, it stays as it is for the same epoch, and is 0 for another one.
        """
        if start is not None or epoch != self.epoch:
            self.start = start or 0
        self.epoch = epoch

    def __len__(self) -> int:
        return self.micro_batches * self._count

    def __iter__(self) -> Iterator[list[int]]:
        for micro_batch in islice(self._micro_batches(self.epoch), self.start, None):
            yield micro_batch[self.rank :: self.processes]

    def micro_batch(self, epoch: int, position: int) -> list[int]:
        """Returns the rows of a micro-batch, the shares of all processes together.

        Args:
            epoch: The epoch, from 0.
            position: The position of the micro-batch in the epoch, from 0.
        """
        return next(islice(self._micro_batches(epoch), position, None))

    @property
    def _count(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def _micro_batches(self, epoch: int) -> Iterator[list[int]]:
        for batch in self._batches(epoch):
            for number in range(self.micro_batches):
                yield batch[number :: self.micro_batches]

    def _batches(self, epoch: int) -> Iterator[list[int]]:
        generator, batches = np.random.default_rng((self.seed, epoch)), self._count
        order = generator.permutation(len(self.lengths))[: batches * self.batch_size]
        windows = max(1, round(batches / WINDOW))
        window = np.arange(len(order)) // self.batch_size * windows // batches
        order = order[np.lexsort((self.lengths[order], window))]
        for start in generator.permutation(batches) * self.batch_size:
            yield order[start : start + self.batch_size].tolist()


def longest_first(lengths: ArrayLike, batch_size: int) -> list[list[int]]:
    """Returns batches of the rows 0 to n - 1 by falling length, and rows of equal length in order.

    The longest batch comes first: if it fits into memory, all others do.

    Args:
        lengths: The length of each row (n,).
        batch_size: The number of rows of a batch.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)]
