"""The architecture as NAS-VQA (Dang, 2020) prints it: ``VQAGenotype(img_gene=[...], que_gene=[...], rnn_gene=[...])``.

A gene lists the nodes of the image stream, of the question stream and of the recurrent question encoder. Its search
prints for every node all edges, ``[('tanh', 0), ('none', 1)]``, the most decided first; its training reads one edge a
node, ``('tanh', 0)``. Here the first is ``edges="all"``, the second ``edges="one"``, of the spaces ``stacked`` and
``recurrent``.
"""

import ast
import re
from dataclasses import dataclass
from typing import Any, Literal, Self

from model_space.architecture import Architecture
from model_space.contracts import Choices
from model_space.encoders.recurrent import RecurrentSettings
from model_space.errors import InputError
from model_space.spaces.stacked import StackedSettings

Gene = list[dict[int, str]]
"""of each node, from the first on: source → operation, by our names"""

ATTENTION = {
    "none": "none",
    "feed_forward": "feed_forward",
    "skip_connect": "identity",
    "self_attn": "self_attention",
    "guided_attn": "guided_attention",
}
ACTIVATIONS = {name: name for name in ("none", "tanh", "relu", "sigmoid", "identity")}

GENES = {
    "img_gene": ("image", ATTENTION, "operation"),
    "que_gene": ("question", ATTENTION, "operation"),
    "rnn_gene": ("recurrent", ACTIVATIONS, "activation"),
}
"""gene → first word of our labels, its names → ours, last word of our label of an operation where edges is one"""


@dataclass(frozen=True)
class Genotype:
    """A point of ``stacked`` and ``recurrent`` together, both of the same form.

    >>> Genotype.parse(Path("log_search.txt").read_text()).choices
    """

    edges: Literal["all", "one"]
    genes: dict[str, Gene]
    """by the names of NAS-VQA"""

    def spaces(self, cells: int) -> tuple[StackedSettings, RecurrentSettings]:
        """The spaces of which it is a point, the backbone with so many cells, which the genotype does not say."""
        return (
            StackedSettings(edges=self.edges, cells=cells, nodes=len(self.genes["img_gene"])),
            RecurrentSettings(edges=self.edges, nodes=len(self.genes["rnn_gene"])),
        )

    @property
    def choices(self) -> Choices:
        """Its choices, by our labels."""
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
        """The genotype of an architecture.

        Raises:
            InputError: it is not of ``stacked`` with the rnn graph and ``recurrent``, both of the same form.
        """
        choices, backbone, encoder = architecture.choices, architecture.space.backbone, architecture.space.encoder
        if (backbone.name, encoder.name) != ("stacked", "recurrent") or backbone.graph != "rnn":
            raise InputError("only 'stacked' with the rnn graph and the encoder 'recurrent' have a genotype of NAS-VQA")
        if backbone.edges != encoder.edges:
            raise InputError(
                f"space.edges is '{backbone.edges}' and encoder.edges '{encoder.edges}': "
                "a genotype of NAS-VQA has one form"
            )

        def edges(stream: str, node: int, operation: str) -> dict[int, str]:
            name = f"{stream}_node{node}"
            if backbone.edges == "all":
                return {source: choices[f"{name}_from{source}"] for source in range(node)}
            return {choices[f"{name}_input"][0]: choices[f"{name}_{operation}"]}

        nodes = {"image": backbone.nodes, "question": backbone.nodes, "recurrent": encoder.nodes}
        return cls(
            backbone.edges,
            {
                gene: [edges(stream, node, operation) for node in range(1, nodes[stream] + 1)]
                for gene, (stream, _, operation) in GENES.items()
            },
        )

    def __str__(self) -> str:
        """As NAS-VQA prints it; the edges of a node by their source, since how decided they were is not known."""

        def written(gene: str) -> str:
            theirs = {ours: name for name, ours in GENES[gene][1].items()}
            nodes = [[(theirs[chosen], source) for source, chosen in node.items()] for node in self.genes[gene]]
            return repr(nodes if self.edges == "all" else [edge for node in nodes for edge in node])

        return f"VQAGenotype({', '.join(f'{gene}={written(gene)}' for gene in GENES)})"

    @classmethod
    def parse(cls, text: str, where: str = "genotype") -> Self:
        """Reads the last ``VQAGenotype(...)`` of a text: its line in a log, or a whole log of a search.

        Args:
            where: names the text's origin in an error.

        Raises:
            InputError: there is none, it is cut off, or it names an operation or a node that cannot be.
        """
        last = re.search(r"VQAGenotype\(.*?\]\s*,?\s*\)", text[max(0, text.rfind("VQAGenotype(")) :], re.DOTALL)
        if not last:
            raise InputError(f"{where}: no whole 'VQAGenotype(img_gene=[...], que_gene=[...], rnn_gene=[...])' in it")
        try:
            call = ast.parse(last[0], mode="eval").body
            content = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        except (SyntaxError, ValueError, AttributeError) as error:
            raise InputError(f"{where}: VQAGenotype cannot be read: {error}") from None
        if list(content) != list(GENES) or not all(isinstance(gene, list) for gene in content.values()):
            raise InputError(f"{where}: VQAGenotype: expected the lists {', '.join(GENES)}, in this order")
        if not content["rnn_gene"] or not 0 < len(content["img_gene"]) == len(content["que_gene"]):
            counts = ", ".join(f"{len(nodes)} in {gene}" for gene, nodes in content.items())
            raise InputError(f"{where}: VQAGenotype has nodes: {counts}; expected as many in img_gene as in que_gene")
        forms = {isinstance(node, list) for gene in content.values() for node in gene}
        if len(forms) > 1:
            raise InputError(f"{where}: VQAGenotype: expected one edge in every node, or a list of edges in every node")
        every_edge = forms.pop()
        genes = {
            gene: [
                node_of(node, i, every_edge, GENES[gene][1], f"{where}: {gene}, node {i + 1}")
                for i, node in enumerate(content[gene])
            ]
            for gene in GENES
        }
        return cls("all" if every_edge else "one", genes)


def node_of(node: Any, before: int, every_edge: bool, names: dict[str, str], where: str) -> dict[int, str]:
    """One node's edges, sorted by source, checked; ``before`` is the number of further nodes before it."""
    sources: dict[int, str] = {}
    for edge in node if every_edge else [node]:
        match edge:
            case (str(operation), int(source)) if operation in names and 0 <= source <= before:
                sources[source] = names[operation]
            case _:
                raise InputError(
                    f"{where}: {edge!r} is no edge, expected an operation of {', '.join(names)} "
                    f"and a node from 0 to {before}"
                )
    if every_edge and (len(node) != before + 1 or len(sources) != before + 1):
        raise InputError(f"{where}: expected one edge from each of the nodes 0 to {before}")
    return dict(sorted(sources.items()))
