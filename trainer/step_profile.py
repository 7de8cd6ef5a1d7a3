"""Where the time of a search's step goes, by part of the network, under torch's profiler.

A few steps of the very search that the settings describe are recorded. Forward hooks put each part's calls into a range
of the trace, so what runs inside is the part's. An operation of the backward pass belongs to the part in which the
forward operation with its sequence number ran: that is how torch's own profiler links the two. A part that is called
*inside* the backward pass is a candidate that was not chosen (``trainer/strategies/snas.py``).

Every moment of a step is the innermost operation's or range's that was open then, so that the parts add up to the step.
On a GPU time is that of the kernels that an operation launched.

The profiler's own ``key_averages`` sums by the name of an operation. It does not say of which part an operation of the
backward pass is, so the trace itself is read here.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.profiler import record_function

from model_space.architecture import Space
from model_space.network import AttentionFlatten, Network, QuestionEncoder
from model_space.operations import (
    FeedForward,
    GuidedAttention,
    Identity,
    RelationalSelfAttention,
    SelfAttention,
    StdLayerNorm,
    Zero,
)
from model_space.spaces.dcn import DenseCoAttentionLayer
from trainer.data.splits import Data
from trainer.data.vqa import Batch
from trainer.search import run
from trainer.strategy import SearchSettings
from trainer.supernet.choices import architecture_parameters, mixed_modules, weighting

WARM_UP, TIMED, RECORDED = 3, 6, 6
"""Numbers of steps that are left out, that are timed without the profiler, and that are recorded. Between the last two
there is one more, in which the profiler warms up."""

LOADING = "loading a batch"
ENCODER = "question encoder"
CELLS = "cells, between operations"
LOSS = "loss and metrics"
STRATEGY = "strategy, with its draws"
WEIGHTS = "optimiser of weights"
ARCHITECTURE = "optimiser of architecture"
REST = "rest: the training loop"

PARTS: dict[type[nn.Module], str] = {
    QuestionEncoder: ENCODER,
    SelfAttention: "self-attention",
    RelationalSelfAttention: "relational self-attention",
    GuidedAttention: "guided attention",
    DenseCoAttentionLayer: "dense co-attention",
    FeedForward: "feed-forward",
    Identity: "identity",
    Zero: "none",
    AttentionFlatten: "attention-flatten",
    StdLayerNorm: "norms of cells and head",
    nn.LayerNorm: "norms of cells and head",
}
"""Modules that are a part of their own, with all that is in them."""

MATRIX, ATTENTION, LSTM, DROPOUT = "matrix products", "fused attention", "fused LSTM", "dropout"
OTHER, PYTHON = "other operations", "Python and autograd, between operations"

KINDS = {
    "aten::mm": MATRIX,
    "aten::addmm": MATRIX,
    "aten::bmm": MATRIX,
    "aten::baddbmm": MATRIX,
    "aten::_addmm_activation": MATRIX,
    "mkldnn::_linear_pointwise": MATRIX,
    "aten::mkldnn_rnn_layer": LSTM,
    "aten::mkldnn_rnn_layer_backward": LSTM,
    "aten::_cudnn_rnn": LSTM,
    "aten::_cudnn_rnn_backward": LSTM,
    "aten::dropout": DROPOUT,
    "aten::native_dropout": DROPOUT,
    "aten::native_dropout_backward": DROPOUT,
    "aten::bernoulli_": DROPOUT,
    # Of model_space/functional.py: which elements are dropped, and that they are.
    "_Dropout": DROPOUT,
    "aten::rand": DROPOUT,
    "aten::log_": DROPOUT,
    "aten::cumsum_": DROPOUT,
    "aten::searchsorted": DROPOUT,
    "aten::index_fill_": DROPOUT,
    "aten::index_copy_": DROPOUT,
}
"""The kind of an operation by its name; it is also the kind of what the operation calls. Others are ``OTHER``."""

HOST = ("cpu_op", "user_annotation", "cuda_runtime", "cuda_driver")
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of the events of a trace: on a thread of the CPU, and on a GPU."""

STEP, RANGE = "step", "part: "
"""Names of ranges in the trace."""


@dataclass
class PartTime:
    """What one part costs in a step, in milliseconds."""

    forward: float = 0.0
    backward: float = 0.0
    not_chosen: float = 0.0
    """Time of its calls within the backward pass: candidates that were not chosen."""
    calls: float = 0.0
    host: float = 0.0
    """Time that Python and the CPU took for it. On a CPU it is the sum of the three times."""

    @property
    def total(self) -> float:
        return self.forward + self.backward + self.not_chosen


@dataclass
class Profile:
    """What was measured of a step; times are in milliseconds."""

    parts: dict[str, PartTime]
    """The time of a step by part; on a GPU the time in which the device was busy."""
    kinds: dict[str, float]
    """The same time by kind of operation."""
    recorded: float
    """Duration of a step under the profiler."""
    step: float
    """Duration of a step without the profiler."""
    padding: float
    """Share of the places of regions that was padding."""
    device: str
    trace: Path
    idle: float = 0.0
    """Time in which a GPU waited for Python."""


def profile(data: Data, space: Space, settings: SearchSettings, folder: Path) -> Profile:
    """Runs a few steps of a search from its beginning.

    Args:
        data: Training and validation split.
        space: What is searched.
        settings: Settings of the search.
        folder: Where ``trace.json`` is written, for https://ui.perfetto.dev or chrome://tracing.

    Raises:
        InputError: There is nothing to search, or the batch is larger than the data.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler says on stderr when it starts and stops
    recorder = Recorder()
    # At least one step an epoch; the recorder ends the loop when it has enough.
    settings = settings.model_copy(update={"epochs": WARM_UP + TIMED + 1 + RECORDED})
    run(data, space, settings, [recorder], folder=None)
    folder.mkdir(parents=True, exist_ok=True)
    trace = folder / "trace.json"
    recorder.profiler.export_chrome_trace(str(trace))
    on_device = recorder.device.type != "cpu"
    parts, kinds = attribute(read_trace(trace), RECORDED, on_device)
    padding = 1 - torch.cat([mask.flatten() for mask in recorder.masks]).float().mean().item()
    left = recorder.recorded - sum(cost.total for cost in parts.values())
    if on_device:
        name, idle = torch.cuda.get_device_name(recorder.device), max(left, 0.0)  # streams may overlap
    else:
        name, idle = f"CPU, threads: {torch.get_num_threads()}", 0.0
        parts[REST].forward += left  # between the ranges of two steps
    return Profile(parts, kinds, recorder.recorded, recorder.step, padding, name, trace, idle)


class Recorder(Callback):
    """A callback that warms up, times, records, and ends the loop.

    A step is what lies between the ends of two batches.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.masks: list[Tensor] = []
        self.ranges = ExitStack()
        self.range: record_function
        """Opens the range of the step that is being recorded."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.device = pl_module.device
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self.profiler = torch.profiler.profile(activities=activities)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.masks += [each.region_mask for each in batches(batch)]  # looked into later: that waits for the device

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps += 1
        recorded = self.steps - (WARM_UP + TIMED + 1)
        if self.steps == WARM_UP:
            self.start = self.now()
        elif self.steps == WARM_UP + TIMED:
            self.step = 1000 * (self.now() - self.start) / TIMED
            self.ranges.enter_context(ranges(trainer, pl_module))
            self.profiler.start()
        elif recorded == 0:
            self.start = self.now()
        elif recorded == RECORDED:
            self.recorded = 1000 * (self.now() - self.start) / RECORDED
        if recorded > 0:
            self.range.__exit__(None, None, None)
        if recorded == RECORDED:
            self.profiler.stop()
            self.ranges.close()
            trainer.should_stop = True
        elif recorded >= 0:
            self.range = record_function(STEP)
            self.range.__enter__()

    def now(self) -> float:
        """Returns the time in seconds, once the device has done all that it was given."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        return perf_counter()


def batches(batch: Any) -> Iterator[Batch]:
    """Returns the batches of a step: one, or, by name, those of the weights and of the architecture."""
    if isinstance(batch, Batch):
        yield batch
    else:
        for each in batch.values():
            yield from batches(each)


@contextmanager
def ranges(trainer: pl.Trainer, pl_module: BaseOneShotLightningModule) -> Iterator[None]:
    """Makes each part of a step a range in the trace, as long as the block lasts."""
    with ExitStack() as stack:

        def record_call(owner: Any, method: str, part: str) -> None:
            call = getattr(owner, method)
            setattr(owner, method, record_function(RANGE + part)(call))
            stack.callback(setattr, owner, method, call)

        def record_module(module: nn.Module, part: str) -> None:
            opened: list[record_function] = []

            def before(module: nn.Module, inputs: Any) -> None:
                opened.append(record_function(RANGE + part))
                opened[-1].__enter__()

            def after(module: nn.Module, inputs: Any, output: Any) -> None:
                opened.pop().__exit__(None, None, None)

            stack.callback(module.register_forward_pre_hook(before).remove)
            stack.callback(module.register_forward_hook(after).remove)

        training_module = pl_module.training_module
        record_call(trainer.strategy, "batch_to_device", LOADING)
        record_call(training_module, "training_step", LOSS)
        # Around the loss, the backward pass and the optimisers, which have ranges of their own.
        record_call(pl_module, "training_step", STRATEGY)
        for module in {weighting(mixed) for mixed in mixed_modules(pl_module)}:
            record_module(module, STRATEGY)
        for module, part in parts(training_module.model):
            record_module(module, part)

        of_architecture = {id(parameter) for parameter in architecture_parameters(pl_module).values()}
        opened: list[record_function] = []

        def before_step(optimizer: torch.optim.Optimizer, *unused: object) -> None:
            first = optimizer.param_groups[0]["params"][0]
            opened.append(record_function(RANGE + (ARCHITECTURE if id(first) in of_architecture else WEIGHTS)))
            opened[-1].__enter__()

        def after_step(*unused: object) -> None:
            opened.pop().__exit__(None, None, None)

        stack.callback(register_optimizer_step_pre_hook(before_step).remove)
        stack.callback(register_optimizer_step_post_hook(after_step).remove)
        yield


def parts(network: Network) -> Iterator[tuple[nn.Module, str]]:
    """Yields the parts of a network or supernet, each with its name."""
    yield network.image_projection, "image projection"
    yield network.classifier, "classifier"
    yield network.backbone, CELLS
    yield from outermost(network)


def outermost(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for child in module.children():
        if type(child) in PARTS:
            yield child, PARTS[type(child)]
        else:
            yield from outermost(child)


@dataclass
class Place:
    """What a moment of the trace belongs to."""

    part: str
    phase: str
    """The name of a time of :class:`PartTime`."""
    kind: str | None


@dataclass
class Event:
    """One operation or range of a thread."""

    name: str
    start: float
    end: float
    thread: int
    numbers: dict[str, Any]
    own: float
    """Microseconds in which nothing inside of it was open."""
    kernels: float = 0.0
    """Microseconds of the kernels that it launched itself."""
    parent: "Event | None" = None
    place: Place | None = None


def read_trace(path: Path) -> list[Event]:
    """Returns the events of a Chrome trace by their start. Each knows the event in which it is."""
    content = [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]
    content.sort(key=lambda event: (event["ts"], -event["dur"]))
    events: list[Event] = []
    open_events: dict[int, list[Event]] = defaultdict(list)
    launches: dict[Any, Event] = {}
    for each in content:
        start, duration, numbers = each["ts"], each["dur"], each.get("args", {})
        if each["cat"] in HOST:
            event = Event(each["name"], start, start + duration, each["tid"], numbers, duration)
            within = open_events[event.thread]
            while within and within[-1].end <= start:
                within.pop()
            if within:
                event.parent = within[-1]
                event.parent.own -= duration
            within.append(event)
            events.append(event)
            launches[numbers.get("correlation")] = event
    for each in content:
        # The device's side: with the call that launched it.
        if each["cat"] in DEVICE and (launch := launches.get(each["args"].get("correlation"))):
            launch.kernels += each["dur"]
    return events


def attribute(events: list[Event], steps: int, on_device: bool) -> tuple[dict[str, PartTime], dict[str, float]]:
    """Shares the time of recorded steps out.

    Args:
        events: Events of the trace, with every step in a range of that name.
        steps: Number of recorded steps.
        on_device: Whether the time of kernels counts, and not that of the CPU.

    Returns:
        Parts and kinds of operations, in milliseconds a step.
    """
    forward: dict[int, Place] = {}
    """By sequence number."""
    last_backward = Place(REST, "backward", None)
    costs: dict[str, PartTime] = defaultdict(PartTime)
    kinds: dict[str, float] = defaultdict(float)
    for event in dropwhile(lambda event: event.name != STEP, events):
        around = event.parent.place if event.parent else None
        number = event.numbers.get("Sequence number", -1)
        if event.name.startswith("autograd::engine::evaluate_function: "):
            # Where a weight's gradient is stored has no number, and comes right after what computed the gradient.
            source = forward.get(number, last_backward)
            place = last_backward = Place(source.part, "backward", DROPOUT if source.kind == DROPOUT else None)
        elif event.name == STEP:
            place = Place(REST, "forward", None)
        elif around is None:
            continue  # of another thread
        elif event.name.startswith(RANGE):
            phase = "forward" if around.phase == "forward" else "not_chosen"
            place = Place(event.name.removeprefix(RANGE), phase, None)
        elif event.name.startswith("enumerate(DataLoader)"):
            place = Place(LOADING, "forward", None)
        elif event.name.startswith("Optimizer."):
            place = Place(WEIGHTS, "forward", None)
        else:
            other = OTHER if event.name.startswith("aten::") else None
            place = Place(around.part, around.phase, kind_of(event.name) or around.kind or other)
        event.place = place
        if number >= 0 and place.phase == "forward":
            # Operations without a gradient bear the number of the next one that has: so the last of a number counts.
            forward[number] = place

        host = event.own / 1000 / steps
        time = event.kernels / 1000 / steps if on_device else host
        cost = costs[place.part]
        setattr(cost, place.phase, getattr(cost, place.phase) + time)
        cost.host += host
        cost.calls += event.name.startswith(RANGE) / steps
        kinds[place.kind or PYTHON] += time
    return dict(costs), dict(kinds)


def kind_of(name: str) -> str | None:
    return ATTENTION if name.startswith("aten::_") and "scaled_dot_product" in name else KINDS.get(name)
