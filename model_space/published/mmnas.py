"""Architecture files of MMnas (Yu et al., 2020, arXiv 2004.12070, https://github.com/MILVLG/mmnas).

They hold points of the space ``encoder_decoder``. Each epoch of a search has one operation a block, for the encoder and
for the decoder::

    {"epoch0": {"enc": [["self_att_64"], ["feed_forward"]], "dec": [["guided_att_64"], ["rel_self_att_64"]]}}

The number behind an attention is the width of one of its heads. The file says nothing of other sizes.
"""

import difflib
import json
import logging
import re
from pathlib import Path
from typing import Any

from model_space.architecture import Architecture, Space
from model_space.contracts import Choices, Listing
from model_space.errors import InputError
from model_space.files import parse_json
from model_space.sizes import NO_DATA, NetworkSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings

PUBLISHED = {path.stem: path for path in sorted((Path(__file__).parent / "genotypes").glob("*.json"))}
"""Published architectures, name → file.

``mmnasnet_vqa`` was found by MMnas for VQA-v2 (``logs/ckpts/arch/train_vqa.json`` there). ``mmnas_mcan`` is MCAN as a
point of the space (``arch/mcan.json`` there).
"""

CHAINS = {"enc": "encoder", "dec": "decoder"}
"""Chain in the file → first word of the labels of its blocks."""

OPERATIONS = {
    "enc": {"self_attention": "self_att", "feed_forward": "feed_forward"},
    "dec": {
        "self_attention": "self_att",
        "relational_self_attention": "rel_self_att",
        "guided_attention": "guided_att",
        "feed_forward": "feed_forward",
    },
}
"""Chain in the file → candidate → its name in the file, without the width of a head."""

log = logging.getLogger(__name__)


def published(name: str, space: Space) -> Architecture:
    """Returns a published architecture.

    Args:
        name: A name of :data:`PUBLISHED`.
        space: Says what the file does not, see :func:`read`.

    Raises:
        InputError: No architecture has this name, or its heads are of another width than those of the space.

    Example:
        >>> space = Space(backbone=EncoderDecoderSettings(), network=NetworkSettings(), data=NO_DATA)
        >>> published("mmnasnet_vqa", space).choices["decoder_block1"]
        'guided_attention'
    """
    if name not in PUBLISHED:
        raise InputError(f"unknown architecture '{name}', expected one of {', '.join(PUBLISHED)}")
    return read(PUBLISHED[name].read_text(encoding="utf-8"), name, space)


def listings() -> list[Listing]:
    """Returns the published architectures, for the table of ``launch.py --spaces``."""
    space = Space(backbone=EncoderDecoderSettings(), network=NetworkSettings(), data=NO_DATA)
    architectures = {name: published(name, space) for name in PUBLISHED}
    return [
        Listing(f"published {name}", "2004.12070", architecture.space.backbone, choices=architecture.choices)
        for name, architecture in architectures.items()
    ]


def is_mmnas(text: str) -> bool:
    """Returns whether a text is an architecture file of MMnas, by its first keys."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and any(key in CHAINS or key.startswith("epoch") for key in content)


def read(text: str, where: str, space: Space) -> Architecture:
    """Reads an architecture file. Of several epochs the last one counts, and a warning says so.

    Args:
        text: The content of the file. The epoch may be absent: ``{"enc": ..., "dec": ...}``.
        where: Names the origin of the text in an error.
        space: Says what the file does not: the question encoder and the sizes, and where its backbone is
            ``encoder_decoder`` the other parameters of that.

    Raises:
        InputError: The text is not such a file, or has an operation that is unknown or does not fit the sizes.
    """
    genotype, where = _last_epoch(text, where)
    names = _names(space.network, where)
    choices: Choices = {}
    for chain, word in CHAINS.items():
        choices |= _choices(genotype[chain], word, names[chain], f"{where}, '{chain}'")
    known = space.backbone if isinstance(space.backbone, EncoderDecoderSettings) else EncoderDecoderSettings()
    blocks = {f"{word}_blocks": len(genotype[chain]) for chain, word in CHAINS.items()}
    return Architecture(
        space=space.model_copy(update={"backbone": known.model_copy(update=blocks)}),
        choices=choices,
    )


def write(architecture: Architecture) -> str:
    """Returns the content of MMnas's file of an architecture, as one epoch.

    Repeated cells are written out one after the other, since the file knows no repetition.

    Raises:
        InputError: The architecture is not of the space ``encoder_decoder``, or the file cannot say what it has.

    Example:
        >>> blocks = EncoderDecoderSettings(encoder_blocks=1, decoder_blocks=1)
        >>> space = Space(backbone=blocks, network=NetworkSettings(), data=NO_DATA)
        >>> choices = {"encoder_block1": "self_attention", "decoder_block1": "feed_forward"}
        >>> print(write(Architecture(space=space, choices=choices)), end="")
        {"epoch0": {"enc": [["self_att_64"]], "dec": [["feed_forward"]]}}
    """
    backbone, encoder, choices = architecture.space.backbone, architecture.space.encoder, architecture.choices
    if not isinstance(backbone, EncoderDecoderSettings) or encoder.name != "lstm":
        raise InputError(
            f"an architecture of '{backbone.name}' with the question encoder '{encoder.name}' cannot be written as "
            "MMnas's file, only one of 'encoder_decoder' with 'lstm'"
        )
    names = _names(architecture.space.network, "MMnas's file")
    blocks = {"enc": backbone.encoder_blocks, "dec": backbone.decoder_blocks}
    genotype = {
        chain: [[names[chain][choices[f"{word}_block{i}"]]] for i in range(1, blocks[chain] + 1)] * backbone.cells
        for chain, word in CHAINS.items()
    }
    return json.dumps({"epoch0": genotype}) + "\n"


def _choices(nodes: Any, word: str, names: dict[str, str], where: str) -> Choices:
    """Returns the choices of a chain, whose blocks the file lists as ``nodes``."""
    if not isinstance(nodes, list) or not nodes:
        raise InputError(f"{where}: {nodes!r}, expected a list of at least one block")
    candidates = {name: candidate for candidate, name in names.items()}
    choices = {}
    for number, node in enumerate(nodes, start=1):
        if not isinstance(node, list) or len(node) != 1 or not isinstance(node[0], str):
            raise InputError(f"{where}, block {number}: {node!r}, expected a list of one operation")
        if node[0] not in candidates:
            raise InputError(f"{where}, block {number}: {_unknown(node[0], list(candidates))}")
        choices[f"{word}_block{number}"] = candidates[node[0]]
    return choices


def _names(network: NetworkSettings, where: str) -> dict[str, dict[str, str]]:
    """Returns chain → candidate → its whole name in the file, at these sizes."""
    if network.feed_forward_size not in (None, 4 * network.hidden):
        raise InputError(
            f"{where}: network.feed_forward_size is {network.feed_forward_size}, but a 'feed_forward' of MMnas is "
            f"4 x hidden = {4 * network.hidden} wide inside"
        )
    width = network.hidden // network.heads
    return {
        chain: {c: f"{name}_{width}" if name.endswith("_att") else name for c, name in operations.items()}
        for chain, operations in OPERATIONS.items()
    }


def _last_epoch(text: str, where: str) -> tuple[dict[str, Any], str]:
    """Returns the two chains of the last epoch, and ``where`` with the name of that epoch behind it."""
    content = parse_json(text, where, "an architecture of MMnas")
    if isinstance(content, dict):
        epochs = sorted((key for key in content if re.fullmatch("epoch[0-9]{1,9}", key)), key=lambda key: int(key[5:]))
        if len(epochs) > 1:
            log.warning("%s: has %d epochs, the last is taken: '%s'", where, len(epochs), epochs[-1])
        if epochs:
            content, where = content[epochs[-1]], f"{where}, '{epochs[-1]}'"
    if not isinstance(content, dict) or content.keys() != CHAINS.keys():
        raise InputError(f"{where}: not an architecture of MMnas: expected the keys 'enc' and 'dec', and no others")
    return content, where


def _unknown(operation: str, known: list[str]) -> str:
    """Says what is wrong with an operation that is not among the known ones."""
    stem, _, width = operation.rpartition("_")
    of_that_stem = [name for name in known if name.rpartition("_")[0] == stem and stem.endswith("_att")]
    if of_that_stem and width.isdecimal():
        own = of_that_stem[0].rpartition("_")[2]
        return (
            f"'{operation}' has heads of {width} features, but those of the network have {own}: "
            f"hidden / heads has to be {width}"
        )
    near = difflib.get_close_matches(operation, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown operation {operation!r}, expected one of {', '.join(known)}{hint}"
