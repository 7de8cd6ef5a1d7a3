"""What a drawing of an architecture shows, before it has any shape.

Every space is one of two graphs, :class:`CellGraph` or :class:`ChainGraph`. In both a stream is a row of states,
numbered from 0, and an edge computes a state from an earlier state of its stream. Some edges are guided by a state of
the other stream.
"""

from dataclasses import dataclass

OTHER = {"image": "question", "question": "image"}
"""The other stream of each stream."""


@dataclass(frozen=True)
class Edge:
    """An operation of a stream, from one of its states to a later one."""

    stream: str
    source: int
    """The state that the operation transforms."""
    node: int
    """The state that it computes."""
    operation: str
    guide: tuple[str, int] | None = None
    """The stream and the state that guide the operation; None where nothing does."""
    joint: bool = False
    """Whether one operation computes both streams. The edge of the other stream is then its other half."""


@dataclass(frozen=True)
class CellGraph:
    """A cell as papers draw it, folded. A state is a node, and several edges may enter it, from any node before it."""

    title: str
    streams: tuple[str, ...]
    nodes: tuple[str, ...]
    """Names of the nodes of each stream: first those that inputs enter, then the searched ones."""
    edges: tuple[Edge, ...]
    inputs: tuple[tuple[str, int], ...]
    """Each input in words, and the position of the node that it enters."""
    prepared: str | None
    """The operation that each input goes through first; None where there is none."""
    start: str
    """How a node joins its inputs, if it has several."""
    result: str
    """What the mean of the searched nodes is, in words."""
    after: str | None
    """The operation that each stream goes through after the last cell; None where there is none."""
    note: str
    """What is written below the drawing."""

    @property
    def searched(self) -> range:
        """Returns the positions of the nodes whose mean is the output."""
        return range(1 + max(node for _, node in self.inputs), len(self.nodes))


@dataclass(frozen=True)
class ChainGraph:
    """Blocks one after another. Block ``i`` is the one edge between the states ``i - 1`` and ``i``."""

    titles: dict[str, str]
    """The heading above the blocks of each stream."""
    edges: tuple[Edge, ...]
    note: str
    """What is written below the drawing."""
    repeats: int = 1
    """How often the blocks of a stream are repeated."""
    fixed: bool = False
    """Whether nothing in it is chosen."""

    @property
    def streams(self) -> tuple[str, ...]:
        """Returns the names of the streams."""
        return tuple(self.titles)


def joint_edges(layer: int, operation: str) -> list[Edge]:
    """Returns the two halves of an operation that computes both streams of a layer, each guided by the other."""
    return [Edge(stream, layer - 1, layer, operation, (OTHER[stream], layer - 1), joint=True) for stream in OTHER]
