"""Which questions make a batch, and in which order the batches come.

A batch is padded to its longest row. Batches of images with similar numbers of regions are padded little.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike
from torch.utils.data import Sampler

WINDOW = 32
"""batches that are sorted together: with fewer there is more padding, with more the same questions meet more often"""


class ShuffledBatches(Sampler[list[int]]):
    """Batches of the places 0 to n - 1 in shuffled buckets, each place once an epoch.

    An epoch is a random permutation, cut into windows of about ``WINDOW`` batches. Each window is sorted by length and
    cut into batches, and the batches of all windows are shuffled: which lengths come early and which late is chance.
    Where all lengths are equal this is a plain shuffle.

    The order depends on the seed and the epoch alone, so a run that goes on from a checkpoint sees the order that it
    would have seen. Lightning calls :meth:`set_epoch` where this is the ``sampler`` of a loader (of a
    ``batch_sampler`` it would not); a loop of one's own has to, or every epoch has the same order.

    A batch is given in one part, or in several for a step of accumulated gradients; of each part a process of several
    gets its share. Both take every n-th place, so that parts and shares have similar lengths too.

    Args:
        lengths: of the rows, ``(n,)``.
        drop_last: leave out the questions that do not fill a batch, others in each epoch; else one batch is smaller.
    """

    def __init__(self, lengths: ArrayLike, batch_size: int, seed: int, drop_last: bool = False):
        self.lengths = np.asarray(lengths)
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self.parts, self.rank, self.ranks = 1, 0, 1
        self.epoch, self.start = 0, 0

    def divide(self, parts: int, rank: int = 0, ranks: int = 1) -> None:
        """Gives each batch in so many parts, and of each part the share of one process of several."""
        self.parts, self.rank, self.ranks = parts, rank, ranks

    def set_epoch(self, epoch: int, start: int | None = None) -> None:
        """Chooses the epoch, and how many of its parts are left out because an earlier run has had them.

        The same epoch once more, without ``start``, goes on leaving them out.
        """
        if start is not None or epoch != self.epoch:
            self.start = start or 0
        self.epoch = epoch

    def __len__(self) -> int:
        return self.parts * self._count

    def __iter__(self) -> Iterator[list[int]]:
        for part in islice(self._parts(self.epoch), self.start, None):
            yield part[self.rank :: self.ranks]

    def part(self, epoch: int, place: int) -> list[int]:
        """What came at a place of an epoch, the shares of all processes together."""
        return next(islice(self._parts(epoch), place, None))

    @property
    def _count(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def _parts(self, epoch: int) -> Iterator[list[int]]:
        for batch in self._batches(epoch):
            for part in range(self.parts):
                yield batch[part :: self.parts]

    def _batches(self, epoch: int) -> Iterator[list[int]]:
        generator, batches = np.random.default_rng((self.seed, epoch)), self._count
        order = generator.permutation(len(self.lengths))[: batches * self.batch_size]
        windows = max(1, round(batches / WINDOW))
        window = np.arange(len(order)) // self.batch_size * windows // batches
        order = order[np.lexsort((self.lengths[order], window))]
        for start in generator.permutation(batches) * self.batch_size:
            yield order[start : start + self.batch_size].tolist()


def longest_first(lengths: ArrayLike, batch_size: int) -> list[list[int]]:
    """Batches of the places 0 to n - 1 in the order of their lengths; where these are equal, in order.

    The longest comes first: if it does not fit into memory this shows at once, and where it fits the others do.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)]
