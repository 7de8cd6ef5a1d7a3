"""The picture of a cell.

Each stream is a lane of nodes from left to right. An edge passes over the nodes between its two ends: the more of them
there are, the higher it is drawn.
"""

from experiment.results.drawing.picture import FAINT, INK, SOFT, Picture
from model_space.graph import CellGraph, Edge

# All lengths are in the units of the view box of the SVG, which are CSS pixels at its natural size.
COLUMN = 140  # distance between neighbouring nodes
ROW = 44  # how much higher an edge is for each node that it passes over
LANES = 160  # distance between the nodes of the first stream and those of the second
NODE = 15  # radius of a node
SHADE = 26  # distance from the last node to the end of the shade behind the nodes
LEFT = 110  # x of the left side of the cell
INPUT = 165  # x of the operation that prepares an input
NODE_0 = 245  # x of the first node; the inputs are left of it
MARGIN = 24  # x at which text begins


def width(cell: CellGraph) -> float:
    """Returns the width of the picture of the cell."""
    return _right(cell) + 230


def draw(picture: Picture, cell: CellGraph, top: float) -> float:
    """Draws the cell below ``top`` and returns the y at which it ends."""
    spans = {s: max(edge.node - edge.source for edge in cell.edges if edge.stream == s) for s in cell.streams}
    lanes = {cell.streams[0]: top + max(52 + _height(spans[cell.streams[0]]), 80)}
    bottom = lanes[cell.streams[0]] + 46
    for stream in cell.streams[1:]:
        lanes[stream] = lanes[cell.streams[0]] + LANES
        bottom = lanes[stream] + max(46 + _height(spans[stream]), 72)
    right = _right(cell)
    picture.box((right + LEFT) / 2, (top + bottom) / 2, right - LEFT, bottom - top, "#fafafa", FAINT, radius=14)
    picture.label(LEFT + 14, top + 22, cell.title, size=14, weight="bold", anchor="start")

    for stream, y in lanes.items():
        _fixed(picture, cell, stream, y)
    # What is drawn later covers what is drawn earlier: first edges without operation, then the others, then the nodes.
    for edge in sorted(cell.edges, key=lambda edge: edge.operation != "none"):
        _edge(picture, cell, edge, lanes)
    for stream, y in lanes.items():
        for node, name in enumerate(cell.nodes):
            picture.circle(_x(node), y, NODE, name, f"{stream} node {name}")
    for edge in cell.edges:
        picture.operation(*_middle(cell, edge, lanes), edge.operation, filled=edge.operation != "none")
    return bottom


def _x(node: int) -> float:
    return NODE_0 + COLUMN * node


def _mean(cell: CellGraph) -> float:
    return _x(len(cell.nodes) - 1) + 0.75 * COLUMN


def _right(cell: CellGraph) -> float:
    return _mean(cell) + 45


def _height(span: int) -> float:
    """Returns how high above its lane an edge is that spans so many columns."""
    return ROW * (span - 1)


def _outward(cell: CellGraph, stream: str) -> int:
    """Returns in which direction the edges of a stream are drawn, away from the other stream: -1 is up, 1 is down."""
    return -1 if stream == cell.streams[0] else 1


def _middle(cell: CellGraph, edge: Edge, lanes: dict[str, float]) -> tuple[float, float]:
    """Returns where the operation of an edge is drawn. No two edges of a stream have the same middle."""
    y = lanes[edge.stream] + _outward(cell, edge.stream) * _height(edge.node - edge.source)
    return (_x(edge.source) + _x(edge.node)) / 2, y


def _edge(picture: Picture, cell: CellGraph, edge: Edge, lanes: dict[str, float]) -> None:
    """Draws the arrow of an edge, and the dashed one of the state that guides it."""
    start, end, y = _x(edge.source), _x(edge.node), lanes[edge.stream]
    out = _outward(cell, edge.stream)
    source, node = cell.nodes[edge.source], cell.nodes[edge.node]
    if edge.node - edge.source == 1:
        path = f"M{start + NODE} {y} L{end - NODE - 2} {y}"
    else:
        # A cubic Bézier curve through the middle of the edge, from the shoulder of one node to that of the other.
        first, last, shoulder = start + 8, end - 8, y + out * 13
        crest = shoulder + (_middle(cell, edge, lanes)[1] - shoulder) * 4 / 3
        inward = 0.25 * (last - first)
        path = (
            f"M{first} {shoulder} C{first + inward:.1f} {crest:.1f} {last - inward:.1f} {crest:.1f} {last} {shoulder}"
        )
    picture.line(path, edge.operation, title=f"{edge.stream} node {node}: {edge.operation} of {source}")
    if edge.guide:
        y0, y1 = lanes[edge.guide[0]] + out * NODE, y - out * (NODE + 2)
        bend = out * 0.45 * LANES
        path = f"M{start + 4} {y0} C{start + 14} {y0 + bend:.1f} {end - 14} {y1 - bend:.1f} {end - 4} {y1}"
        title = f"{edge.guide[0]} node {source} guides {edge.stream} node {node}"
        picture.line(path, edge.operation, dashed=True, title=title)


def _fixed(picture: Picture, cell: CellGraph, stream: str, y: float) -> None:
    """Draws what all architectures have: the inputs, the mean of the searched nodes, what follows the last cell."""
    inward = -_outward(cell, stream)
    picture.label(MARGIN, y - 48 if inward > 0 else y + 58, stream, size=15, weight="bold", anchor="start")
    for i, (words, node) in enumerate(cell.inputs):
        joined = [into for _, into in cell.inputs].count(node) > 1
        # Two inputs of one node come from above and below. An input of a later node comes from the inner side.
        dy = (-22, 22)[i] if joined else 48 * inward * node
        x, end_y = (_x(node) - NODE - 1, y + dy / 4) if node == 0 else (_x(node) - 9, y + 14 * inward)
        bend = f"L{x - 60} {y + dy} L{x} {end_y}" if node else f"L{x} {end_y}"
        picture.label(MARGIN, y + dy + 4, words, anchor="start")
        if cell.prepared:
            picture.line(f"M{MARGIN + 60} {y + dy} L{INPUT - 32} {y + dy}")
            picture.operation(INPUT, y + dy, cell.prepared)
        picture.line(f"M{INPUT + 30 if cell.prepared else MARGIN + 60} {y + dy} {bend}")
        if joined and not i:
            picture.label(_x(node) - 2, y + 31, cell.start, size=10, colour=SOFT, anchor="end")

    first, last = _x(cell.searched[0]), _x(cell.searched[-1])
    picture.box((first + last) / 2, y, last - first + 2 * SHADE, 2 * NODE + 14, fill="#e5e9f0", radius=22)
    mean, right = _mean(cell), _right(cell)
    picture.line(f"M{last + SHADE} {y} L{mean - 23} {y}")
    picture.box(mean, y, 42, 22, fill="white", stroke=INK, radius=11)
    picture.label(mean, y + 4, "mean")
    out = right + 133 if cell.after else right + 43
    if cell.after:
        picture.line(f"M{mean + 21} {y} L{right + 43} {y}")
        picture.operation(right + 75, y, cell.after)
        picture.label(right + 75, y + 30, "after the last cell", size=10, colour=SOFT)
    picture.line(f"M{right + 105 if cell.after else mean + 21} {y} L{out} {y}")
    picture.label(out + 7, y + 4, cell.result.format(stream=stream), anchor="start")
