"""How the figures of the documents are written."""

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from model_space.files import write_whole


def write_svg(figure: Figure, path: Path, name: str) -> None:
    """Writes a figure, whole or not at all. The same figure of the same name gives the same bytes; text stays text."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    with write_whole(path) as partial:
        partial.write_bytes(content.getvalue())
