"""The pictures of an architecture: everything that it chose is in them, and nothing that it carries can break them."""

import re
from itertools import product
from xml.etree import ElementTree

import pytest

from experiment.results.drawing import save_svg, svg, text
from experiment.results.drawing.picture import COLOURS
from experiment.results.drawing.words import graphs
from model_space.architecture import Architecture
from model_space.encoders.recurrent import RecurrentSettings
from model_space.spaces.dcn import DCNSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.tiny import tiny_space

SVG = "{http://www.w3.org/2000/svg}"
OPERATIONS = ("none", "identity", "feed_forward", "self_attention", "guided_attention")


def architecture(form="one", nodes=4, seed=0, cells=3, **fields) -> Architecture:
    space = tiny_space(StackedSettings(edges=form, nodes=nodes, cells=cells))
    return Architecture(space=space, choices=space.random_choices(seed), **fields)


def chosen(choices, form, nodes):
    """Returns (stream, source, node, operation) of every edge, read from the labels without the code under test."""
    found = set()
    for stream, node in product(("image", "question"), range(1, nodes + 1)):
        name = f"{stream}_node{node}"
        if form == "one":
            found.add((stream, choices[f"{name}_input"][0], node, choices[f"{name}_operation"]))
        else:
            found |= {(stream, source, node, choices[f"{name}_from{source}"]) for source in range(node)}
    return found


def titles(picture: ElementTree.Element) -> set[str]:
    return {element.text for element in picture.iter(f"{SVG}title")}


def dashed(picture: ElementTree.Element) -> set[str]:
    paths = (path for path in picture.iter(f"{SVG}path") if "stroke-dasharray" in path.attrib)
    return {path.find(f"{SVG}title").text for path in paths}


EVERY_KIND = pytest.mark.parametrize(("form", "nodes"), list(product(("one", "all"), (1, 2, 4, 5))))


@EVERY_KIND
def test_text_has_every_choice_in_its_stream_and_node(form, nodes):
    for seed in range(5):
        drawn = architecture(form, nodes, seed)
        found, node = set(), None
        for line in text(drawn).splitlines():
            if re.match(r"node [1-9]", line):
                node = int(line.split()[1])
            elif line and not line.startswith(" "):
                node = None
            if node is None:
                continue
            for stream, other, words in (("image", "question", line[9:55]), ("question", "image", line[55:])):
                operation, source, guide = re.fullmatch(r"(\w+) of (\d)(?: by (.*))?", words.strip()).groups()
                assert guide == (f"{other} {source}" if operation == "guided_attention" else None)
                found.add((stream, int(source), node, operation))
        assert found == chosen(drawn.choices, form, nodes)


@EVERY_KIND
def test_picture_has_every_choice_and_dashes_what_guides(form, nodes):
    for seed in range(5):
        drawn = architecture(form, nodes, seed)
        picture = ElementTree.fromstring(svg(drawn))
        said = titles(picture)
        other = {"image": "question", "question": "image"}
        guides = set()
        for stream, source, node, operation in chosen(drawn.choices, form, nodes):
            assert any(title.startswith(f"{stream} node {node}: {operation} of {source}") for title in said)
            if operation == "guided_attention":
                guides.add(f"{other[stream]} node {source} guides {stream} node {node}")
        assert dashed(picture) == guides
        assert {f"{stream} node {node}" for stream in other for node in range(nodes + 1)} <= said
        words = [element.text for element in picture.iter(f"{SVG}text")]
        assert {"cell, × 3", "image", "question", "mean", "after the last cell", *map(str, range(nodes + 1))} <= {
            *words
        }


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_named_and_coloured(operation):
    drawn = architecture("all", 2)
    drawn = drawn.model_copy(update={"choices": dict.fromkeys(drawn.choices, operation)})
    picture = ElementTree.fromstring(svg(drawn))
    words = [element.text for element in picture.iter(f"{SVG}text")]
    fixed = 6 if operation == "feed_forward" else 0  # two before node 0 and one after the cells, in both streams
    for word in operation.split("_"):
        assert words.count(word) == len(drawn.choices) + fixed
    filled = [box for box in picture.iter(f"{SVG}rect") if box.get("fill") == COLOURS[operation]]
    assert len(filled) == (0 if operation == "none" else len(drawn.choices))


@pytest.mark.parametrize("form", ["one", "all"])
def test_operations_and_nodes_do_not_overlap_and_are_inside(form):
    for seed in range(20):
        drawn = architecture(form, 5, seed)
        picture = ElementTree.fromstring(svg(drawn))
        _, _, width, height = map(float, picture.get("viewBox").split())
        boxes = [
            tuple(float(box.get(key)) for key in ("x", "y", "width", "height"))
            for box in picture.iter(f"{SVG}rect")
            if box.get("rx") == "6"
        ]
        assert len(boxes) == len(graphs(drawn)[0].edges) + 6
        for node in picture.iter(f"{SVG}circle"):
            x, y, radius = (float(node.get(key)) for key in ("cx", "cy", "r"))
            boxes.append((x - radius, y - radius, 2 * radius, 2 * radius))
        for i, (x, y, w, h) in enumerate(boxes):
            assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
            for x2, y2, w2, h2 in boxes[:i]:
                assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_text_fits_a_terminal():
    drawn = architecture("all", 5, provenance={f"key{i}": "value " * 30 for i in range(5)})
    drawn = drawn.model_copy(update={"choices": dict.fromkeys(drawn.choices, "guided_attention")})
    assert max(map(len, text(drawn).splitlines())) <= 100


def test_title_tells_space_score_and_origin():
    provenance = {"trial": "XyZ12", "parameters": {"strategy": "snas", "seed": 3}, "versions": {"nni": "3.0"}}
    drawn = architecture("all", cells=1, score=61.26, provenance=provenance)
    for picture in (text(drawn), svg(drawn)):
        assert "stacked: graph rnn, edges all, cells 1, nodes 4" in picture
        assert "validation accuracy 61.3 %, trial XyZ12, strategy snas, seed 3" in picture
    assert "accuracy" not in text(architecture())


def test_same_bytes_twice(tmp_path):
    save_svg(architecture(), tmp_path / "one.svg")
    save_svg(architecture(), tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.svg", "two.svg"]


def test_hostile_provenance_stays_words():
    hostile = "</text><script>alert(1)</script>&\x00\x1b[2J\ud800\n" + "x" * 1000
    drawn = architecture(provenance={"trial": hostile, hostile: 1, "parameters": {"strategy": hostile}})
    picture = ElementTree.fromstring(svg(drawn).encode())
    assert not list(picture.iter(f"{SVG}script"))
    assert any("<script>" in (element.text or "") for element in picture.iter(f"{SVG}text"))
    assert all(line.isprintable() for line in text(drawn).split("\n"))


SPACES = [
    tiny_space(StackedSettings(graph="cnn", edges="all")),
    tiny_space(StackedSettings(graph="cnn", edges="one")),
    tiny_space(StackedSettings(edges="one"), RecurrentSettings(edges="one")),
    tiny_space(MCANSettings(form="stacking"), RecurrentSettings(edges="all")),
    tiny_space(PairedSettings()),
    tiny_space(EncoderDecoderSettings()),
    tiny_space(DCNSettings()),
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.backbone.name)
def test_every_space_is_drawn_with_all_its_operations(space):
    for seed in range(3):
        drawn = Architecture(space=space, choices=space.random_choices(seed))
        words = " ".join(element.text for element in ElementTree.fromstring(svg(drawn)).iter(f"{SVG}text"))
        lines = text(drawn)
        assert max(map(len, lines.splitlines())) <= 100
        for graph in graphs(drawn):
            for edge in graph.edges:
                assert edge.operation in lines
                assert edge.operation.replace("_", " ") in words


def test_chain_has_every_block_in_its_place_and_names_what_guides_it():
    space = tiny_space(EncoderDecoderSettings(encoder_blocks=3, decoder_blocks=5))
    for seed in range(5):
        drawn = Architecture(space=space, choices=space.random_choices(seed))
        lines = {line.split()[0]: line for line in text(drawn).splitlines() if re.match(r"\d", line)}
        for block in range(1, 6):
            question, image = lines[str(block)][9:55].strip(), lines[str(block)][55:].strip()
            assert question == drawn.choices.get(f"encoder_block{block}", "")
            operation = drawn.choices[f"decoder_block{block}"]
            # The encoder's last output guides, wherever the block stands.
            guide = " guided by question 3" if operation == "guided_attention" else ""
            assert image == operation + guide
        guided = sum(chosen == "guided_attention" for chosen in drawn.choices.values())
        assert len(dashed(ElementTree.fromstring(svg(drawn)))) == guided
