"""``launch.py --spaces``: lists every space and network with its size and cost."""

import statistics

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model_space.architecture import Architecture, Space
from model_space.contracts import Listing
from model_space.encoders import ENCODERS
from model_space.encoders.lstm import LSTMSettings
from model_space.network import parameter_count
from model_space.published import mmnas
from model_space.sizes import DataSizes
from model_space.spaces import SPACES

DATA = DataSizes(feature_size=2048, vocabulary_size=20_000, answers=3129)
"""VQA-v2 with bottom-up features, and the answers of mcan-vqa. The number of words is round."""
TOKENS, REGIONS = 14, 100
"""Size of the question whose multiply-adds are counted, and of its image."""
SAMPLES = 5
"""Random architectures, of which the line of a space shows the median."""


def run(console: Console) -> None:
    """Prints the table."""
    with console.status("counting"):
        shown = table(all_listings())
    console.print(shown, soft_wrap=False)


def all_listings() -> list[Listing]:
    """Returns the listings of all spaces, question encoders and published architectures."""
    of_spaces = [listing for space in SPACES.values() for listing in space.listings()]
    of_encoders = [listing for encoder in ENCODERS.values() for listing in encoder.listings()]
    return of_spaces + of_encoders + mmnas.listings()


def space_of(listing: Listing) -> Space:
    """Returns the space of a listing, at the sizes of VQA-v2."""
    encoder = listing.encoder or LSTMSettings()
    return Space(backbone=listing.backbone, encoder=encoder, network=listing.network, data=DATA)


def multiply_adds(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Returns the multiply-adds of all matrix products of one forward pass, by torch's counter.

    The network and its inputs are on the meta device. There attention and LSTM fall apart into products; the fused
    kernels of a CPU would go uncounted.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    return counter.get_total_flops() // 2


def cost(architecture: Architecture) -> tuple[int, int]:
    """Returns the number of weights, and the multiply-adds of one question about one image."""
    with torch.device("meta"):
        network = architecture.network().eval()
        regions, boxes = torch.ones(1, REGIONS, architecture.space.data.feature_size), torch.ones(1, REGIONS, 4)
        tokens = torch.ones(1, TOKENS, dtype=torch.long)
        count = multiply_adds(network, regions, regions[..., 0] > 0, tokens, tokens > 0, boxes)
    return parameter_count(network), count


def measure(listing: Listing) -> tuple[int, int, int]:
    """Returns the number of architectures, of weights, and of multiply-adds."""
    space = space_of(listing)
    if listing.choices is not None:
        return 1, *cost(Architecture(space=space, choices=listing.choices))
    number = space.size()
    samples = [space.random_choices(seed) for seed in range(SAMPLES if number > 1 else 1)]
    costs = [cost(Architecture(space=space, choices=choices)) for choices in samples]
    parameters, multiplications = zip(*costs, strict=True)
    return number, statistics.median_low(parameters), statistics.median_low(multiplications)


def table(listings: list[Listing]) -> Table:
    """Returns the table for a terminal of 80 columns, with weights in millions and multiply-adds in 10^9."""
    caption = (
        f"At the sizes of MCAN small (large: twice as wide), with {DATA.vocabulary_size:,} words, {DATA.answers:,} "
        f"answers and features {DATA.feature_size:,} wide. Multiply-adds: of a question of {TOKENS} tokens about "
        f"{REGIONS} regions. Of a space: the median of {SAMPLES} random architectures. Question encoder: an LSTM, "
        "unless named. NAS-VQA 1, 2, 3: its attempts."
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column("space or network", no_wrap=True)
    table.add_column("source", no_wrap=True)
    for title in ("architectures", "weights, M", "mult-adds, G"):
        table.add_column(title, justify="right", no_wrap=True)
    for listing in listings:
        number, parameters, multiplications = measure(listing)
        cells = short(number), f"{parameters / 1e6:.1f}", f"{multiplications / 1e9:.2f}"
        table.add_row(listing.name, listing.source, *cells)
    return table


def short(number: int) -> str:
    """Returns a number in at most seven characters.

    Example:
        >>> short(262144), short(5**24)
        ('262,144', '6.0e+16')
    """
    return f"{number:,}" if number < 10**6 else f"{number:.1e}"
