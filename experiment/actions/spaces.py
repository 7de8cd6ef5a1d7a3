"""What can be searched and trained here: every space and network with its size and its cost."""

import math
import statistics
from dataclasses import dataclass
from typing import Any

import torch
from rich import box
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model_space.architecture import Architecture, Choices, Space, candidates, random_choices
from model_space.encoders.recurrent import RecurrentSettings
from model_space.network import DataSizes, NetworkSettings, SpaceSettings, parameter_count
from model_space.published import mmnas as mmnas_file
from model_space.question_encoder import EncoderSettings, LSTMSettings
from model_space.spaces.dcn import DCNSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import StackedSettings

SIZES = DataSizes(feature_size=2048, vocabulary_size=20_000, answers=3129)
"""VQA-v2 with bottom-up features, and the answers of mcan-vqa; the number of words is round"""
TOKENS, REGIONS = 14, 100
"""of the question whose multiply-adds are counted, and of its image"""
DRAWS = 5
"""random architectures, of which a space's row shows the median"""

LSTM, SEED = LSTMSettings(), NetworkSettings()
LARGE = NetworkSettings(hidden=1024, flat_out_size=2048)


@dataclass(frozen=True)
class Row:
    """A space with its question encoder, or one architecture of it."""

    name: str
    source: str
    """repository, or the paper's arXiv number"""
    backbone: SpaceSettings
    encoder: EncoderSettings = LSTM
    network: NetworkSettings = SEED
    choices: Choices | None = None
    """of one architecture of the space; None for the whole space"""

    @property
    def fields(self) -> Space:
        return Space(backbone=self.backbone, encoder=self.encoder, network=self.network, data=SIZES)


def published(name: str) -> dict[str, Any]:
    backbone, choices = mmnas_file.published(name, SEED)
    return {"backbone": backbone, "choices": choices}


ROWS = [
    *(
        Row(f"stacked {graph}, edges {edges}", "NAS-VQA 2", StackedSettings(graph=graph, edges=edges))
        for graph in ("rnn", "cnn")
        for edges in ("all", "one")
    ),
    *(
        Row(f"{name} + recurrent, {edges}", "NAS-VQA 3", backbone, RecurrentSettings(edges=edges))
        for edges in ("all", "one")
        for name, backbone in {"stacked": StackedSettings(edges=edges), "mcan": MCANSettings()}.items()
    ),
    Row("paired", "NAS-VQA 1", PairedSettings()),
    Row("encoder_decoder", "2004.12070", EncoderDecoderSettings()),
    Row("  mmnasnet_vqa", "2004.12070", **published("mmnasnet_vqa")),
    Row("  mcan", "2004.12070", **published("mcan")),
    Row("mcan small", "1906.10770", MCANSettings()),
    Row("mcan small, stacking", "1906.10770", MCANSettings(form="stacking")),
    Row("mcan large", "1906.10770", MCANSettings(), network=LARGE),
    Row("dcn", "1804.00775", DCNSettings()),
]


def architecture_count(space: Space) -> int:
    """How many architectures a space has: the product of the numbers of candidates over its labels."""
    return math.prod(len(values) for values in candidates(space).values())


def multiply_adds(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Multiply-adds of all matrix products of one forward pass, by torch's counter.

    The network and its inputs are on the meta device: there attention and LSTM fall apart into products, where fused
    kernels of a CPU go uncounted.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    return counter.get_total_flops() // 2


def cost(architecture: Architecture) -> tuple[int, int]:
    """Parameters, and multiply-adds of one question about one image."""
    with torch.device("meta"):
        network = architecture.network().eval()
        regions, boxes = torch.ones(1, REGIONS, architecture.space.data.feature_size), torch.ones(1, REGIONS, 4)
        tokens = torch.ones(1, TOKENS, dtype=torch.long)
        count = multiply_adds(network, regions, regions[..., 0] > 0, tokens, tokens > 0, boxes)
    return parameter_count(network), count


def measure(row: Row) -> tuple[int, int, int]:
    """Number of architectures, parameters, multiply-adds."""
    if row.choices is not None:
        return 1, *cost(Architecture(row.fields, row.choices))
    number = architecture_count(row.fields)
    draws = [random_choices(row.fields, seed) for seed in range(DRAWS if number > 1 else 1)]
    parameters, multiplications = zip(*(cost(Architecture(row.fields, draw)) for draw in draws), strict=True)
    return number, statistics.median_low(parameters), statistics.median_low(multiplications)


def table(rows: list[Row]) -> Table:
    """For a terminal of 80 columns; weights in millions, multiply-adds in thousands of millions."""
    caption = (
        f"At the sizes of MCAN small (large: twice as wide), with {SIZES.vocabulary_size:,} words, "
        f"{SIZES.answers:,} answers and features {SIZES.feature_size:,} wide. Multiply-adds: of a question of {TOKENS} "
        f"tokens about {REGIONS} regions. Of a space: the median of {DRAWS} random architectures. Question encoder: "
        "an LSTM, unless named. "
        "NAS-VQA 1, 2, 3: its attempts."
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column("space or network", no_wrap=True)
    table.add_column("source", no_wrap=True)
    for title in ("architectures", "weights, M", "mult-adds, G"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        number, parameters, multiplications = measure(row)
        table.add_row(row.name, row.source, short(number), f"{parameters / 1e6:.1f}", f"{multiplications / 1e9:.2f}")
    return table


def short(number: int) -> str:
    """
    >>> short(262144), short(5**24)
    ('262,144', '6.0e+16')
    """
    return f"{number:,}" if number < 10**6 else f"{number:.1e}"
