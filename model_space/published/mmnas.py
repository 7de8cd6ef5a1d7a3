"""Architecture files of MMnas (MILVLG/mmnas): points of the space ``encoder_decoder``.

``{"epoch0": {"enc": [["self_att_64"], ["feed_forward"]], "dec": [["guided_att_64"], ["rel_self_att_64"]]}}``: each
epoch of a search has one operation a block, encoder and decoder. The number behind an attention is the width of a head.
The file says nothing of other sizes.
"""

import difflib
import json
import logging
import re
from pathlib import Path

from model_space.architecture import Architecture
from model_space.contracts import Choices, Listing
from model_space.errors import InputError
from model_space.sizes import NetworkSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings

PUBLISHED = {path.stem: path for path in sorted((Path(__file__).parent / "genotypes").glob("*.json"))}
"""name → file: ``mmnasnet_vqa``, found by MMnas for VQA-v2, and ``mcan``, MCAN as a point of the space"""

CHAINS = {"enc": "encoder", "dec": "decoder"}

OPERATIONS = {
    "enc": {"self_attention": "self_att", "feed_forward": "feed_forward"},
    "dec": {
        "self_attention": "self_att",
        "relational_self_attention": "rel_self_att",
        "guided_attention": "guided_att",
        "feed_forward": "feed_forward",
    },
}
"""chain → candidate → what the file calls it, without the width of a head"""

log = logging.getLogger(__name__)


def published(name: str, network: NetworkSettings) -> tuple[EncoderDecoderSettings, Choices]:
    """The space and the choices of a published architecture, see :data:`PUBLISHED`.

    Raises:
        InputError: no such name, or its heads are of another width than the network's.
    """
    if name not in PUBLISHED:
        raise InputError(f"unknown architecture '{name}', expected one of {', '.join(PUBLISHED)}")
    return read(PUBLISHED[name].read_text(encoding="utf-8"), name, network)


def listings() -> list[Listing]:
    """Returns the published architectures, for the table of ``launch.py --spaces``."""
    network = NetworkSettings()
    spaces = {name: published(name, network) for name in PUBLISHED}
    return [
        Listing(f"published {name}", "2004.12070", space, choices=choices) for name, (space, choices) in spaces.items()
    ]


def read(text: str, where: str, network: NetworkSettings) -> tuple[EncoderDecoderSettings, Choices]:
    """The space and the choices of a file with one epoch, or of its last epoch where it has several.

    Args:
        text: also without the epoch: ``{"enc": ..., "dec": ...}``.
        where: names its origin in an error.
        network: the sizes that the file's operations have to fit.

    Raises:
        InputError: not such a file, an operation that the space does not have or that does not fit the network.
    """
    genotype, where = _last_epoch(text, where)
    names = _names(network, where)
    choices, blocks = {}, {}
    for chain, word in CHAINS.items():
        nodes = genotype[chain]
        if not isinstance(nodes, list) or not nodes:
            raise InputError(f"{where}, '{chain}': {nodes!r}, expected a list of at least one block")
        candidates = {name: candidate for candidate, name in names[chain].items()}
        for number, node in enumerate(nodes, start=1):
            block = f"{where}, '{chain}', block {number}"
            if not isinstance(node, list) or len(node) != 1 or not isinstance(node[0], str):
                raise InputError(f"{block}: {node!r}, expected a list of one operation")
            if node[0] not in candidates:
                raise InputError(f"{block}: {_unknown(node[0], list(candidates))}")
            choices[f"{word}_block{number}"] = candidates[node[0]]
        blocks[f"{word}_blocks"] = len(nodes)
    return EncoderDecoderSettings(**blocks), choices


def write(architecture: Architecture) -> str:
    """The file of an architecture, as one epoch. Repeated cells are written out, since the file knows no repetition.

    Raises:
        InputError: the architecture is not of the space ``encoder_decoder``, or has something that the file cannot say.
    """
    space, choices = architecture.space.backbone, architecture.choices
    if space.name != "encoder_decoder" or architecture.space.encoder.name != "lstm":
        raise InputError(
            f"an architecture of '{space.name}' with the question encoder '{architecture.space.encoder.name}' cannot "
            "be written as MMnas's file, only one of 'encoder_decoder' with 'lstm'"
        )
    names = _names(architecture.space.network, "MMnas's file")
    blocks = {"enc": space.encoder_blocks, "dec": space.decoder_blocks}
    genotype = {
        chain: [[names[chain][choices[f"{word}_block{i}"]]] for i in range(1, blocks[chain] + 1)] * space.cells
        for chain, word in CHAINS.items()
    }
    return json.dumps({"epoch0": genotype}) + "\n"


def _names(network: NetworkSettings, where: str) -> dict[str, dict[str, str]]:
    """chain → candidate → the file's whole name of it, at these sizes."""
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


def _last_epoch(text: str, where: str) -> tuple[dict, str]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}, line {error.lineno}: not JSON: {error.msg}") from None
    if isinstance(content, dict):
        epochs = sorted(int(key[5:]) for key in content if re.fullmatch("epoch[0-9]+", key))
        if len(epochs) > 1:
            log.warning("%s: has %d epochs, the last is taken: 'epoch%d'", where, len(epochs), epochs[-1])
        if epochs:
            content, where = content[f"epoch{epochs[-1]}"], f"{where}, 'epoch{epochs[-1]}'"
    if not isinstance(content, dict) or content.keys() != CHAINS.keys():
        raise InputError(f"{where}: not an architecture of MMnas: expected the keys 'enc' and 'dec', and no others")
    return content, where


def _unknown(operation: str, known: list[str]) -> str:
    """What is wrong with an operation that is not among the known."""
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
    return f"unknown operation '{operation}', expected one of {', '.join(known)}{hint}"
