"""The picture of a chain: each stream is a column of blocks from top to bottom."""

from experiment.results.drawing.picture import FAINT, SOFT, Picture
from model_space.graph import ChainGraph, Edge

# All lengths are in the units of the view box of the SVG, which are CSS pixels at its natural size.
BLOCK = 170  # width of a block
HALF = 14  # half of the height of a block
ROW = 52  # distance between neighbouring blocks
COLUMNS = (150, 450)  # x of the two streams
WIDTH = 600  # width of the picture


def width(chain: ChainGraph) -> float:
    """Returns the width of the picture of the chain."""
    return WIDTH


def draw(picture: Picture, chain: ChainGraph, top: float) -> float:
    """Draws the chain below ``top`` and returns the y at which it ends."""
    x: dict[str, float] = dict(zip(chain.streams, COLUMNS, strict=True))
    top += 34  # here is state 0
    last = {s: max((edge.node for edge in chain.edges if edge.stream == s), default=0) for s in chain.streams}
    for stream, title in chain.titles.items():
        picture.label(x[stream], top - 18, title, size=15, weight="bold")
        if chain.repeats > 1:
            height = ROW * last[stream]
            picture.box(x[stream], top + height / 2, BLOCK + 60, height - 2, "#fafafa", FAINT, radius=14)
            picture.label(x[stream] + BLOCK / 2 + 26, top + 16, f"× {chain.repeats}", weight="bold", anchor="end")
        end = top + ROW * last[stream] + 22
        for state in range(last[stream] + 1):
            below = end if state == last[stream] else _block(top, state + 1) - HALF - 2
            picture.line(f"M{x[stream]} {_block(top, state) + HALF if state else top - 10} L{x[stream]} {below}")
        picture.label(x[stream], end + 15, f"{stream} out")
    guides = {edge.guide for edge in chain.edges if edge.guide}
    for edge in chain.edges:
        if edge.guide and not edge.joint:
            _guide(picture, edge, edge.guide, x, top, shared=len(guides) == 1)
    for edge in chain.edges:
        y = _block(top, edge.node)
        left, right = COLUMNS
        if not edge.joint:
            picture.operation(x[edge.stream], y, edge.operation, BLOCK, filled=not chain.fixed)
        elif edge.stream == chain.streams[0]:
            picture.operation((left + right) / 2, y, edge.operation, right - left + BLOCK, filled=not chain.fixed)
        side = -1 if x[edge.stream] == left else 1
        picture.label(x[edge.stream] + side * (BLOCK / 2 + 16), y + 4, str(edge.node), size=11, colour=SOFT)
    return top + ROW * max(last.values()) + 40


def _block(top: float, node: int) -> float:
    """Returns the y of the block that computes a state."""
    return top + ROW * (node - 0.5)


def _state(top: float, state: int) -> float:
    """Returns the y of a state: between two blocks, above the head of the arrow that joins them."""
    return top + ROW * state - 4


def _guide(picture: Picture, edge: Edge, guide: tuple[str, int], x: dict[str, float], top: float, shared: bool) -> None:
    """Draws the arrow from the state that guides a block. If it is the same for all blocks, they share one line."""
    stream, state = guide
    side = 1 if x[stream] < x[edge.stream] else -1
    start, y0 = x[stream], _state(top, state)
    end, y1 = x[edge.stream] - side * (BLOCK / 2 + 2), _block(top, edge.node)
    middle = sum(COLUMNS) / 2
    if shared:
        path = f"M{start} {y0} L{middle} {y0} L{middle} {y1} L{end} {y1}"
    else:
        path = f"M{start} {y0} C{middle} {y0} {middle} {y1} {end} {y1}"
    picture.dot(start, y0, edge.operation)
    title = f"{stream} {state} guides {edge.stream} {edge.node}"
    picture.line(path, edge.operation, dashed=True, title=title)
