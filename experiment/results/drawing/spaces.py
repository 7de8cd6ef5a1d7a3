"""The graph of every space and network: which operations an architecture has there, and what they join."""

from model_space.architecture import Architecture, Choices
from model_space.encoders.recurrent import RecurrentSettings
from model_space.graph import CellGraph, ChainGraph, Edge
from model_space.spaces.dcn import DCNSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import STREAMS, StackedSettings

OTHER = {"image": "question", "question": "image"}

UNITS = (
    "SA: self-attention, feed-forward. "
    "SGA: self-attention, guided attention, feed-forward. Each with a residual and a norm."
)
CO_ATTENTION = (
    "Dense co-attention: each region attends to all words, each word to all regions, and both to memory slots; what a "
    "position attends to is fused with what it was, with a residual."
)


def graphs(architecture: Architecture) -> list[CellGraph | ChainGraph]:
    """What the architecture is made of, in the order in which it is computed."""
    encoder, backbone = architecture.space.encoder, architecture.space.backbone
    drawn = [] if encoder.name == "lstm" else [recurrent(encoder, architecture.choices)]
    return [*drawn, BACKBONES[backbone.name](backbone, architecture.choices)]


def recurrent(space: RecurrentSettings, choices: Choices) -> CellGraph:
    edges = []
    for node in range(1, space.nodes + 1):
        name = f"recurrent_node{node}"
        if space.edges == "one":
            (source,) = choices[f"{name}_input"]
            edges.append(Edge("question", source, node, choices[f"{name}_activation"]))
        else:
            edges += [Edge("question", source, node, choices[f"{name}_from{source}"]) for source in range(node)]
    return CellGraph(
        title="recurrent cell, at every word",
        streams=("question",),
        nodes=tuple(map(str, range(space.nodes + 1))),
        edges=tuple(edges),
        inputs=(("word t", 0), ("state t-1", 0)),
        prepared=None,
        start="gated product",
        result="state t",
        after=None,
        note="An edge is a gated product, named by its activation. State t is the feature of word t."
        + " A node sums its edges and normalises the sum." * (space.edges == "all"),
    )


def stacked(space: StackedSettings, choices: Choices) -> CellGraph:
    first = 1 if space.graph == "rnn" else 2  # the position of the first searched node
    edges = []
    for stream in STREAMS:
        for node in range(first, first + space.nodes):
            name = f"{stream}_node{node - first + 1}"
            if space.edges == "all":
                chosen = [(source, choices[f"{name}_from{source}"]) for source in range(node)]
            elif space.graph == "rnn":
                chosen = [(choices[f"{name}_input"][0], choices[f"{name}_operation"])]
            else:
                sources = map(int, choices[f"{name}_inputs"].split(","))
                chosen = [(source, choices[f"{name}_operation{i}"]) for i, source in enumerate(sources, start=1)]
            for source, operation in chosen:
                guide = (OTHER[stream], source) if operation == "guided_attention" else None
                edges.append(Edge(stream, source, node, operation, guide))
    before = ("0",) if space.graph == "rnn" else ("k-2", "k-1")
    return CellGraph(
        title=f"cell, × {space.cells}" if space.cells > 1 else "cell",
        streams=STREAMS,
        nodes=before + tuple(str(node) for node in range(1, space.nodes + 1)),
        edges=tuple(edges),
        inputs=(("cell k-2", 0), ("cell k-1", first - 1)),
        prepared="feed_forward",
        start="mean",
        result="{stream} out",
        after="feed_forward",
        note="Both inputs of the first cell are the image's regions and the question's words."
        + {"all": " A node sums its edges and normalises the sum.", "one": ""}[space.edges]
        + " A node sums its two edges." * ((space.graph, space.edges) == ("cnn", "one")),
    )


def paired(space: PairedSettings, choices: Choices) -> ChainGraph:
    edges = []
    for layer in range(1, space.layers + 1):
        pair = choices[f"layer{layer}"]
        if pair == "CoA":
            edges += _joint(layer, "CoA")
            continue
        for stream, operation in zip(("question", "image"), pair.split("-"), strict=True):
            guide = (OTHER[stream], layer - 1) if operation == "SGA" else None
            edges.append(Edge(stream, layer - 1, layer, operation, guide))
    titles = {"question": "question", "image": "image"}
    note = f"{UNITS} ID: identity. CoA: dense co-attention, of both streams."
    return ChainGraph(titles, tuple(edges), note)


def encoder_decoder(space: EncoderDecoderSettings, choices: Choices) -> ChainGraph:
    edges = []
    for block in range(1, space.encoder_blocks + 1):
        edges.append(Edge("question", block - 1, block, choices[f"encoder_block{block}"]))
    for block in range(1, space.decoder_blocks + 1):
        operation = choices[f"decoder_block{block}"]
        guide = ("question", space.encoder_blocks) if operation == "guided_attention" else None
        edges.append(Edge("image", block - 1, block, operation, guide))
    titles = {"question": "question: encoder", "image": "image: decoder"}
    note = "Each block has a residual and a norm. Relational self-attention also sees how the regions' boxes lie."
    return ChainGraph(titles, tuple(edges), note, repeats=space.cells)


def mcan(space: MCANSettings, choices: Choices) -> ChainGraph:
    edges = []
    for layer in range(1, space.layers + 1):
        guide = "question", layer if space.form == "stacking" else space.layers
        edges.append(Edge("question", layer - 1, layer, "SA"))
        edges.append(Edge("image", layer - 1, layer, "SGA", guide))
    return ChainGraph({"question": "question", "image": "image"}, tuple(edges), UNITS, fixed=True)


def dcn(space: DCNSettings, choices: Choices) -> ChainGraph:
    edges = [edge for layer in range(1, space.layers + 1) for edge in _joint(layer, "dense_co_attention")]
    return ChainGraph({"question": "question", "image": "image"}, tuple(edges), CO_ATTENTION, fixed=True)


BACKBONES = {
    "stacked": stacked,
    "paired": paired,
    "encoder_decoder": encoder_decoder,
    "mcan": mcan,
    "dcn": dcn,
}


def _joint(layer: int, operation: str) -> list[Edge]:
    return [Edge(stream, layer - 1, layer, operation, (OTHER[stream], layer - 1), joint=True) for stream in OTHER]
