"""What a step costs here, in the plain form, and in matrix products alone.

    make bench            # or python -m benchmarks.step
    make bench SMALL=1    # a quick look: hidden 128 alone, fewer rounds

In every round each side takes a step, one after the other in the same process, at the same sample and on the same
questions; the table has the medians over the rounds after the first. A round's sample is balanced: of each stream's
choices as many have one candidate as any other. Numbers of regions are drawn as bottom-up features have them, 10 to
100 with a mean of 37. Both sides pad to 100, or ours is ``trimmed``: padded to the longest image of its batch, in
batches of similar images; then its time is the mean over batches from the shortest images to the longest.

The floor is the time of the matrix products of our step alone, on tensors that lie ready, in the same rounds.
"""

import argparse
import platform
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from time import perf_counter
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

import trainer  # noqa: F401  before NNI is imported: what it warns of
from benchmarks.plain import plain
from model_space.architecture import Space
from model_space.encoders.recurrent import RecurrentSettings
from model_space.functional.dropout import dropout_sampled_ahead
from model_space.sizes import DataSizes, NetworkSettings
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from trainer.strategies.snas import SampledInput, SampledLayer, Snas
from trainer.supernet.choices import OneHot, architecture_parameter, mixed_modules, set_samples, weighting

REGIONS, TOKENS = 100, 14
DATA = DataSizes(feature_size=2048, vocabulary_size=15_000, answers=3_129)

Step = Callable[[], None]


def region_counts(images: int) -> np.ndarray:
    """Numbers of regions as bottom-up attention finds them with a threshold: 10 to 100, mean 37, sorted."""
    drawn = 10 + np.random.default_rng(0).gamma(1.8, 16.0, 2 * images)
    return np.sort(drawn[drawn < REGIONS + 1][:images].astype(int))


def batch_of(counts: np.ndarray, longest: int) -> list[Tensor]:
    """Regions, their mask, tokens, their mask, boxes: what a network takes."""
    generator = torch.Generator().manual_seed(0)
    region_mask = torch.arange(longest) < torch.as_tensor(counts)[:, None]
    regions = torch.randn(*region_mask.shape, DATA.feature_size, generator=generator) * region_mask[..., None]
    tokens = torch.randint(1, DATA.vocabulary_size, (len(counts), TOKENS), generator=generator)
    token_mask = torch.arange(TOKENS) < torch.randint(5, TOKENS + 1, (len(counts), 1), generator=generator)
    boxes = torch.rand(*region_mask.shape, 4, generator=generator).cumsum(-1) * 100
    return [regions, region_mask, tokens * token_mask, token_mask, boxes]


def choices_of(supernet: nn.Module) -> list[tuple[int, OneHot, nn.Parameter]]:
    """Returns, for every label, its place among those of its stream, its sample and its architecture parameter."""
    modules = {str(module.label): module for module in mixed_modules(supernet)}
    streams = groupby(sorted(modules), key=lambda label: label.partition("_")[0])
    places = [(place, label) for _, of_stream in streams for place, label in enumerate(of_stream)]
    samples = {label: cast(OneHot, weighting(module)) for label, module in modules.items()}
    return [(place, samples[label], architecture_parameter(modules[label])) for place, label in places]


def set_balanced_sample(choices: list[tuple[int, OneHot, nn.Parameter]], shift: int) -> None:
    """Sets a sample of every choice, in which all candidates are chosen about equally often."""
    lengths = [len(parameter) for *_, parameter in choices]
    indices = [(place + shift) % length for (place, *_), length in zip(choices, lengths, strict=True)]
    values = functional.one_hot(torch.tensor(indices), max(lengths)).float().to(choices[0][-1].device)
    set_samples([sample for _, sample, _ in choices], values.requires_grad_(), lengths, indices)


@contextmanager
def single_path() -> Iterator[None]:
    with patch.object(SampledLayer, "computes_others", False), patch.object(SampledInput, "computes_others", False):
        yield


@dataclass
class Side:
    """One way to take a step."""

    name: str
    step: Step
    context: Callable = nullcontext
    per_call: int = 1
    """Number of steps that a call takes."""
    seconds: list[float] = field(default_factory=list)

    def __call__(self) -> None:
        with self.context():
            self.step()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternate(sides: list[Side], rounds: int, before: Callable[[int], None] = lambda shift: None) -> None:
    """Runs all sides ``rounds`` times after a first time that does not count."""
    for shift in tqdm(range(rounds + 1), desc="rounds", leave=False, disable=None):
        for side in sides:
            before(shift)
            synchronise()
            start = perf_counter()
            side()
            synchronise()
            if shift:
                side.seconds.append((perf_counter() - start) / side.per_call)


def peak_memory(side: Side) -> float:
    """Bytes that a call has at its peak above what was there before it: the model and the moments of its optimiser."""
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        side()
        return torch.cuda.max_memory_allocated() - before
    with profile(profile_memory=True) as recorded:
        side()
    now = peak = 0
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


class Products(TorchDispatchMode):
    """Notes the matrix products that are computed inside, and computes them again without the rest."""

    NAMES = ("mm", "addmm", "bmm", "baddbmm")

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Callable[[], Tensor]] = []
        self.flops = 0
        self._ready: dict[tuple, Tensor] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name == "_linear_pointwise":  # oneDNN's, whose factors come first, but for what is added
            left, right = (self.ready(args[place]) for place in (0, 2 if function._overloadname == "binary" else 1))
            self.products.append(lambda: torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], ""))
            self.flops += 2 * left.numel() * len(right)
        elif name in self.NAMES:
            left, right = (self.ready(each) for each in [each for each in args if isinstance(each, Tensor)][-2:])
            result = self.ready(left.new_empty(*left.shape[:-1], right.shape[-1]))
            product = torch.mm if left.dim() == 2 else torch.bmm
            self.products.append(lambda: product(left, right, out=result))
            self.flops += 2 * result.numel() * left.shape[-1]
        return function(*args, **(kwargs or {}))

    def ready(self, like: Tensor) -> Tensor:
        """Returns a tensor of the same form; all tensors of one form share it."""
        key = (like.shape, like.stride(), like.dtype)
        if key not in self._ready:
            elements = 1 + sum((size - 1) * stride for size, stride in zip(like.shape, like.stride(), strict=True))
            storage = torch.randn(elements, dtype=like.dtype, device=like.device)
            self._ready[key] = storage.as_strided(like.shape, like.stride())
        return self._ready[key]

    def again(self) -> None:
        for product in self.products:
            product()


def training_step(
    network: nn.Module,
    batches: list[list[Tensor]],
    optimizer: torch.optim.Optimizer,
    autocast: Callable,
    resample: Step = lambda: None,
) -> Step:
    """Returns a function that takes a step on each of the batches, at a sample of its own that ``resample`` sets."""
    device = next(network.parameters()).device
    batches = [[part.to(device) for part in batch] for batch in batches]
    targets = torch.rand(len(batches[0][0]), DATA.answers, device=device)

    def step() -> None:
        for batch in batches:
            resample()
            with dropout_sampled_ahead():
                with autocast():
                    logits = network(*batch)
                functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum").backward()
            optimizer.step()
            optimizer.zero_grad()  # here, so that a step begins and ends with the same memory

    return step


@dataclass
class Setting:
    """A network, in what batches it steps, and what its steps are compared by."""

    network: nn.Module
    batch: int
    device: torch.device
    autocast: Callable
    shift: int = 1
    """Which balanced sample a search is at."""

    def __post_init__(self) -> None:
        self.network.to(self.device)
        self.choices = choices_of(self.network)
        counts = region_counts(64 * self.batch).reshape(-1, self.batch)
        self.padded = [batch_of(np.random.default_rng(0).permutation(counts.ravel())[: self.batch], REGIONS)]
        # From the shortest images to the longest, as buckets have them.
        self.trimmed = [batch_of(each, each.max()) for each in counts[10::21]]

    def side(self, name: str, fast: bool = True, trimmed: bool = False, context: Callable = nullcontext) -> Side:
        fused = {"fused": True} if fast else {"foreach": False}
        optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, **fused)
        batches = self.trimmed if trimmed else self.padded
        autocast = self.autocast if fast else nullcontext
        step = training_step(self.network, batches, optimizer, autocast, self.resample)
        return Side(name, step, context, len(batches))

    def resample(self) -> None:
        if self.choices:
            set_balanced_sample(self.choices, self.shift)

    def at(self, shift: int) -> None:
        self.shift = shift


def measure(setting: Setting, ways: dict[str, Side], reference: Side, rounds: int) -> list:
    """Rows of the table: way, plain and our seconds, ratio, memory of both, share of the floor."""
    floors = {}
    for name, side in ways.items():
        side()  # where a first step is not like the others
        with Products() as products:
            side()
        floors[name] = Side(name, products.again, per_call=side.per_call)
    alternate([reference, *ways.values(), *floors.values()], rounds, setting.at)
    setting.at(1)
    plain_memory = peak_memory(reference)
    rows = []
    for name, side in ways.items():
        memory = peak_memory(side)
        rows.append((name, reference.median, side.median, plain_memory, memory, floors[name].median / side.median))
    return rows


def search_rows(hidden: int, batch: int, rounds: int, device: torch.device, autocast: Callable) -> tuple[list, str]:
    space = Space(
        backbone=StackedSettings(), encoder=RecurrentSettings(), network=NetworkSettings(hidden=hidden), data=DATA
    )
    supernet = Snas(architecture_lr=1e-3, temperature=(1.0, 1.0)).mutate_model(space.build())
    setting = Setting(supernet, batch, device, autocast)
    name = f"hidden {hidden}, batch {batch}"
    ways = {
        f"search, {name}, padded": setting.side("padded"),
        f"search, {name}, trimmed": setting.side("trimmed", trimmed=True),
        f"single path, {name}, padded": setting.side("single path", context=single_path),
        f"single path, {name}, trimmed": setting.side("single path, trimmed", trimmed=True, context=single_path),
    }
    reference = setting.side("plain", fast=False, context=plain)
    rows = measure(setting, ways, reference, rounds)
    return rows, encoder_share(setting, rounds)


def encoder_share(setting: Setting, rounds: int) -> str:
    """Returns in words how much of a search step the recurrent question encoder takes."""
    supernet = setting.network
    tokens = setting.padded[0][2].to(setting.device)

    def encode() -> None:
        setting.resample()
        cast(nn.Module, supernet.question_encoder)(tokens).sum().backward()

    encoder, whole = Side("encoder", encode), setting.side("whole", trimmed=True)
    alternate([encoder, whole], rounds, setting.at)
    return f"{100 * encoder.median / whole.median:.0f} % of the trimmed step"


def training_rows(hidden: int, batch: int, rounds: int, device: torch.device, autocast: Callable) -> list:
    space = Space(backbone=MCANSettings(), network=NetworkSettings(hidden=hidden), data=DATA)
    setting = Setting(space.build(), batch, device, autocast)
    name = f"training of MCAN small, batch {batch}"
    ways = {
        f"{name}, padded": setting.side("padded"),
        f"{name}, trimmed": setting.side("trimmed", trimmed=True),
    }
    return measure(setting, ways, setting.side("plain", fast=False, context=plain), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="hidden 128 alone, three rounds")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(0)
    rounds = 3 if args.small else args.rounds
    if torch.cuda.is_available():
        device, sizes = torch.device("cuda"), [(512, 64)]
        autocast: Callable = partial(torch.autocast, "cuda", torch.bfloat16)
        where = torch.cuda.get_device_name()
    else:
        device, autocast, sizes = torch.device("cpu"), nullcontext, [(128, 16), (512, 16)]
        where = f"{torch.get_num_threads()} CPU threads"

    console = Console(width=None if sys.stdout.isatty() else 130)
    for hidden, batch in sizes[:1] if args.small else sizes:
        rows, share = search_rows(hidden, batch, rounds, device, autocast)
        show(console, rows)
        console.print(f"recurrent question encoder, hidden {hidden}: {share}")
        if hidden == 512:
            show(console, training_rows(hidden, batch, rounds, device, autocast))
    console.print(
        f"{where}, torch {torch.__version__}, Python {platform.python_version()}; medians of {rounds} rounds; "
        f"regions: mean {region_counts(1024).mean():.1f}"
    )


def show(console: Console, rows: list) -> None:
    table = Table("step", "plain, s", "here, s", "ratio", "plain, MB", "here, MB", "of memory", "of the floor")
    for name, before, after, plain_bytes, our_bytes, floor in rows:
        table.add_row(
            name,
            f"{before:.3f}",
            f"{after:.3f}",
            f"{before / after:.2f} ×",
            f"{plain_bytes / 1e6:,.0f}",
            f"{our_bytes / 1e6:,.0f}",
            f"1/{plain_bytes / our_bytes:.1f}",
            f"{100 * floor:.0f} %",
        )
    console.print(table)


if __name__ == "__main__":
    main()
