"""Which questions make a batch, and in which order the batches come.

A batch is padded to its longest row. Batches of images with similar numbers of regions are padded little.
"""

from collections.abc import Iterator

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

    Args:
        lengths: of the rows, ``(n,)``.
        drop_last: leave out the questions that do not fill a batch, others in each epoch; else one batch is smaller.
    """

    def __init__(self, lengths: ArrayLike, batch_size: int, seed: int, drop_last: bool = False):
        self.lengths = np.asarray(lengths)
        self.batch_size, self.seed, self.drop_last, self.epoch = batch_size, seed, drop_last, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        generator, batches = np.random.default_rng((self.seed, self.epoch)), len(self)
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
