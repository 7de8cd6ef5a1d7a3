"""What a drawing shows, before it has any shape: streams of states, and the operations that lead from one to the next.

Every space is one of two graphs. In both a stream is a row of states, numbered from 0, and an edge computes a state
from an earlier one of its stream, sometimes guided by a state of the other stream.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Edge:
    """An operation of a stream, from one of its states to a later one."""

    stream: str
    source: int
    node: int
    operation: str
    guide: tuple[str, int] | None = None
    """stream and state that guide the operation"""
    joint: bool = False
    """one operation that computes both streams; the edge of the other stream is its other half"""


@dataclass(frozen=True)
class CellGraph:
    """A cell as papers draw it, folded: a state is a node, which may have several edges, from any node before it."""

    title: str
    streams: tuple[str, ...]
    nodes: tuple[str, ...]
    """names of the nodes of each stream: what enters, then the searched ones"""
    edges: tuple[Edge, ...]
    inputs: tuple[tuple[str, int], ...]
    """what enters, in words, and the node into which it goes"""
    prepared: str | None
    """the operation that each input goes through first"""
    start: str
    """how a node joins its inputs, where it has several"""
    result: str
    """what the mean of the searched nodes is, in words"""
    after: str | None
    """the operation that each stream goes through after the last cell"""
    note: str

    @property
    def searched(self) -> range:
        """Positions of the nodes whose mean is the output."""
        return range(1 + max(node for _, node in self.inputs), len(self.nodes))


@dataclass(frozen=True)
class ChainGraph:
    """Blocks one after another, unrolled: block ``i`` is the one edge between the states ``i - 1`` and ``i``."""

    titles: dict[str, str]
    """stream → heading of its blocks"""
    edges: tuple[Edge, ...]
    note: str
    repeats: int = 1
    """how often the blocks of a stream are run through"""
    fixed: bool = False
    """nothing in it is chosen"""

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(self.titles)
