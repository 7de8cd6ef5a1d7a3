"""Architectures as NAS-VQA (Dang, 2020, https://github.com/DangChuong-DC/NAS-VQA-attempt) prints them.

A genotype is ``VQAGenotype(img_gene=[...], que_gene=[...], rnn_gene=[...])``. A gene lists the nodes of the image
stream, of the question stream and of the recurrent question encoder. The search of NAS-VQA prints for every node all
edges, ``[('tanh', 0), ('none', 1)]``, the most decided first. Its training reads one edge a node, ``('tanh', 0)``. Here
the first is ``edges="all"`` and the second ``edges="one"`` of the spaces ``stacked`` and ``recurrent``.
"""

import ast
import re
from dataclasses import dataclass
from typing import Any, Literal, Self

from model_space.architecture import Architecture, Space
from model_space.contracts import Choices
from model_space.encoders.recurrent import RecurrentSettings
from model_space.errors import InputError
from model_space.spaces.stacked import StackedSettings

Gene = list[dict[int, str]]
"""The nodes of a stream from the first on, each as source → operation, by the names of this package."""

ATTENTION = {
    "none": "none",
    "feed_forward": "feed_forward",
    "skip_connect": "identity",
    "self_attn": "self_attention",
    "guided_attn": "guided_attention",
}
"""Operation of the image and question streams in NAS-VQA → operation here."""

ACTIVATIONS = {name: name for name in ("none", "tanh", "relu", "sigmoid", "identity")}
"""Activation of the recurrent cell in NAS-VQA → activation here."""

GENES = {
    "img_gene": ("image", ATTENTION, "operation"),
    "que_gene": ("question", ATTENTION, "operation"),
    "rnn_gene": ("recurrent", ACTIVATIONS, "activation"),
}
"""Gene → the first word of its labels here, its names there → here, and the last word of the label of an operation
where edges is one."""


@dataclass(frozen=True)
class Genotype:
    """A point of the spaces ``stacked`` and ``recurrent`` together, both of the same form.

    Example:
        >>> genotype = Genotype.parse(
        ...     "VQAGenotype(img_gene=[('self_attn', 0)], que_gene=[('none', 0)], rnn_gene=[('relu', 0)])"
        ... )
        >>> genotype.choices["image_node1_operation"]
        'self_attention'
        >>> genotype.spaces(cells=2)[0].nodes
        1
    """

    edges: Literal["all", "one"]
    """Whether a node keeps all its edges or one."""
    genes: dict[str, Gene]
    """Gene by its name in NAS-VQA."""

    def spaces(self, cells: int) -> tuple[StackedSettings, RecurrentSettings]:
        """Returns the backbone and the question encoder of which it is a point.

        Args:
            cells: Number of cells of the backbone, which the genotype does not say.
        """
        return (
            StackedSettings(edges=self.edges, cells=cells, nodes=len(self.genes["img_gene"])),
            RecurrentSettings(edges=self.edges, nodes=len(self.genes["rnn_gene"])),
        )

    def architecture(self, space: Space) -> Architecture:
        """Returns the architecture of this genotype.

        Args:
            space: Says what the genotype does not: the sizes, the number of cells where its backbone is ``stacked``,
                and the other parameters of the encoder where that is ``recurrent``.
        """
        known = space.backbone.cells if isinstance(space.backbone, StackedSettings) else StackedSettings().cells
        backbone, encoder = self.spaces(known)
        if isinstance(space.encoder, RecurrentSettings):
            encoder = space.encoder.model_copy(update={"edges": encoder.edges, "nodes": encoder.nodes})
        return Architecture(
            space=space.model_copy(update={"backbone": backbone, "encoder": encoder}), choices=self.choices
        )

    @property
    def choices(self) -> Choices:
        """Its choices, by the labels of this package."""
        choices: Choices = {}
        for gene, (stream, _, operation) in GENES.items():
            for node, sources in enumerate(self.genes[gene], start=1):
                name = f"{stream}_node{node}"
                if self.edges == "all":
                    choices |= {f"{name}_from{source}": chosen for source, chosen in sources.items()}
                else:
                    ((source, chosen),) = sources.items()
                    choices |= {f"{name}_input": [source], f"{name}_{operation}": chosen}
        return choices

    @classmethod
    def of(cls, architecture: Architecture) -> Self:
        """Returns the genotype of an architecture, which ``str`` writes as NAS-VQA does.

        Raises:
            InputError: The architecture is not of ``stacked`` with the rnn graph and ``recurrent``, or the two are of
                different forms.
        """
        choices, backbone, encoder = architecture.choices, architecture.space.backbone, architecture.space.encoder
        if (
            not isinstance(backbone, StackedSettings)
            or not isinstance(encoder, RecurrentSettings)
            or backbone.graph != "rnn"
        ):
            raise InputError("only 'stacked' with the rnn graph and the encoder 'recurrent' have a genotype of NAS-VQA")
        if backbone.edges != encoder.edges:
            raise InputError(
                f"space.edges is '{backbone.edges}' and encoder.edges '{encoder.edges}': "
                "a genotype of NAS-VQA has one form"
            )
        form = backbone.edges

        def edges(stream: str, node: int, operation: str) -> dict[int, str]:
            name = f"{stream}_node{node}"
            if form == "all":
                return {source: choices[f"{name}_from{source}"] for source in range(node)}
            return {choices[f"{name}_input"][0]: choices[f"{name}_{operation}"]}

        nodes = {"image": backbone.nodes, "question": backbone.nodes, "recurrent": encoder.nodes}
        genes = {
            gene: [edges(stream, node, operation) for node in range(1, nodes[stream] + 1)]
            for gene, (stream, _, operation) in GENES.items()
        }
        return cls(form, genes)

    def __str__(self) -> str:
        """Returns the genotype as NAS-VQA prints it.

        The edges of a node are in the order of their sources, since how decided they were is not known.
        """

        def written(gene: str) -> str:
            theirs = {ours: name for name, ours in GENES[gene][1].items()}
            nodes = [[(theirs[chosen], source) for source, chosen in node.items()] for node in self.genes[gene]]
            return repr(nodes if self.edges == "all" else [edge for node in nodes for edge in node])

        return f"VQAGenotype({', '.join(f'{gene}={written(gene)}' for gene in GENES)})"

    @classmethod
    def parse(cls, text: str, where: str = "genotype") -> Self:
        """Reads the last ``VQAGenotype(...)`` of a text.

        Args:
            text: One line of a log, or a whole log of a search.
            where: Names the origin of the text in an error.

        Raises:
            InputError: There is no genotype, it is cut off, or it names an operation or a node that cannot be.
        """
        content = _parsed(text, where)
        forms = {isinstance(node, list) for gene in content.values() for node in gene}
        if len(forms) > 1:
            raise InputError(f"{where}: VQAGenotype: expected one edge in every node, or a list of edges in every node")
        all_edges = forms.pop()
        genes = {
            gene: [
                _node(node, i, all_edges, GENES[gene][1], f"{where}: {gene}, node {i + 1}")
                for i, node in enumerate(content[gene])
            ]
            for gene in GENES
        }
        return cls("all" if all_edges else "one", genes)


def _parsed(text: str, where: str) -> dict[str | None, list]:
    """Returns the lists of the last genotype of a text by their names."""
    last = re.search(r"VQAGenotype\(.*?\]\s*,?\s*\)", text[max(0, text.rfind("VQAGenotype(")) :], re.DOTALL)
    if not last:
        raise InputError(f"{where}: no whole 'VQAGenotype(img_gene=[...], que_gene=[...], rnn_gene=[...])' in it")
    try:
        call = ast.parse(last[0], mode="eval").body
        keywords = call.keywords if isinstance(call, ast.Call) else []
        content = {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = str(error).partition("\n")[0] or "it is nested too deeply"
        raise InputError(f"{where}: VQAGenotype cannot be read: {reason}") from None
    if list(content) != list(GENES) or not all(isinstance(gene, list) for gene in content.values()):
        raise InputError(f"{where}: VQAGenotype: expected the lists {', '.join(GENES)}, in this order")
    if not content["rnn_gene"] or not 0 < len(content["img_gene"]) == len(content["que_gene"]):
        counts = ", ".join(f"{len(nodes)} in {gene}" for gene, nodes in content.items())
        raise InputError(f"{where}: VQAGenotype has nodes: {counts}; expected as many in img_gene as in que_gene")
    return content


def _node(node: Any, before: int, all_edges: bool, names: dict[str, str], where: str) -> dict[int, str]:
    """Checks one node and returns its edges, source → operation, sorted by source.

    Args:
        node: One edge, or a list of all edges.
        before: Number of nodes between the input and this one.
        all_edges: Whether the node has all its edges.
        names: Operation in NAS-VQA → operation here.
        where: Names the node in an error.
    """
    sources: dict[int, str] = {}
    for edge in node if all_edges else [node]:
        match edge:
            case (str(operation), int(source)) if operation in names and 0 <= source <= before:
                sources[source] = names[operation]
            case _:
                raise InputError(
                    f"{where}: {edge!r} is no edge, expected an operation of {', '.join(names)} "
                    f"and a node from 0 to {before}"
                )
    if all_edges and (len(node) != before + 1 or len(sources) != before + 1):
        raise InputError(f"{where}: expected one edge from each of the nodes 0 to {before}")
    return dict(sorted(sources.items()))
