"""The drawing of an architecture as text, for a terminal."""

import textwrap

from model_space.architecture import Architecture
from model_space.contracts import BackboneSettings, EncoderSettings
from model_space.graph import CellGraph, ChainGraph, Edge

COLUMNS = 100
"""Columns of the terminal for which a text is written."""
STREAM = 46
"""Columns of one stream."""


def printable(value: object) -> str:
    """Returns one line of at most 60 characters that is safe in a terminal and in XML, whatever the value holds."""
    line = "".join(letter if letter.isprintable() else "?" for letter in str(value))
    return line if len(line) <= 60 else line[:59] + "…"


def graphs(architecture: Architecture) -> list[CellGraph | ChainGraph]:
    """Returns what the architecture is made of, in the order in which it is computed."""
    space, choices = architecture.space, architecture.choices
    encoder = space.encoder.drawing(choices)
    return [*([encoder] if encoder else []), space.backbone.drawing(choices)]


def headline(architecture: Architecture) -> str:
    """Returns the space with its parameters, and the question encoder if that is searched too."""
    encoder, backbone = architecture.space.encoder, architecture.space.backbone
    searched = encoder.drawing(architecture.choices) is not None
    parts: list[BackboneSettings | EncoderSettings] = [backbone, encoder] if searched else [backbone]
    return "; ".join(
        f"{part.name}: "
        + ", ".join(f"{key} {value}" for key, value in part.model_dump(exclude={"name"}, exclude_none=True).items())
        for part in parts
    )


def origin(architecture: Architecture) -> str:
    """Returns the accuracy and the single values of the provenance: experiment, trial, parameters of the trial, ..."""
    provenance = architecture.provenance
    parameters = provenance.get("parameters")
    said = provenance | parameters if isinstance(parameters, dict) else provenance
    score = [] if architecture.score is None else [f"validation accuracy {architecture.score:.1f} %"]
    return ", ".join(
        score
        + [
            f"{printable(key)} {printable(value)}"
            for key, value in said.items()
            if isinstance(value, str | int | float)
        ]
    )


def text(architecture: Architecture) -> str:
    """Returns a drawing of the architecture for a terminal of 100 columns, with the two streams side by side.

    Example:
        >>> print(text(Architecture.load("architecture.json")))
        stacked: graph rnn, edges one, cells 1, nodes 2
        validation accuracy 61.2 %
        ...
    """
    lines = textwrap.wrap(headline(architecture), COLUMNS) + textwrap.wrap(origin(architecture), COLUMNS)
    for graph in graphs(architecture):
        lines += ["", *(cell(graph) if isinstance(graph, CellGraph) else chain(graph))]
        lines += ["", *textwrap.wrap(graph.note, COLUMNS)]
    return "\n".join(lines) + "\n"


def says(edge: Edge, nodes: tuple[str, ...] | None = None) -> str:
    """Returns an edge in words. The names of the nodes are given where an edge can begin at several of them."""
    source = f" of {nodes[edge.source]}" if nodes else ""
    if edge.guide is None:
        return f"{edge.operation}{source}"
    stream, state = edge.guide
    joined = "with" if edge.joint else "by" if nodes else "guided by"
    return f"{edge.operation}{source} {joined} {stream} {nodes[state] if nodes else state}"


def cell(graph: CellGraph) -> list[str]:
    """Returns the lines of a cell: a node and each of its edges."""
    lines = [graph.title, _line("", *graph.streams)]
    for node, name in enumerate(graph.nodes):
        if node in graph.searched:
            edges = [[e for e in graph.edges if (e.stream, e.node) == (stream, node)] for stream in graph.streams]
            rows = [[says(edge, graph.nodes) for edge in row] for row in zip(*edges, strict=True)]
        else:
            entering = [words for words, into in graph.inputs if into == node]
            operations = ([graph.start] if len(entering) > 1 else []) + ([graph.prepared] if graph.prepared else [])
            rows = [[" of ".join([*operations, " and ".join(entering)])] * len(graph.streams)]
        for i, row in enumerate(rows):
            lines.append(_line("" if i else f"node {name}", *row))
    first, last = (graph.nodes[node] for node in (graph.searched[0], graph.searched[-1]))
    mean = f"mean of nodes {first} to {last}" if first != last else f"node {first}"
    lines.append(_line("output", *[mean] * len(graph.streams)))
    if graph.after:
        lines.append(_line("after", *[f"{graph.after}, after the last cell"] * len(graph.streams)))
    return lines


def chain(graph: ChainGraph) -> list[str]:
    """Returns the lines of a chain: a number and its block in each stream."""
    times = f", × {graph.repeats}" if graph.repeats > 1 else ""
    lines = [_line("", *(f"{title}{times}" for title in graph.titles.values()))]
    said = {(edge.stream, edge.node): says(edge) for edge in graph.edges}
    for node in range(1, max(edge.node for edge in graph.edges) + 1):
        lines.append(_line(str(node), *(said.get((stream, node), "") for stream in graph.streams)))
    return lines


def _line(left: str, *columns: str) -> str:
    return (f"{left:<9}" + "".join(f"{column:<{STREAM}}" for column in columns)).rstrip()
