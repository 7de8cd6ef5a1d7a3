"""``launch.py --profile``: where the time of a search's step goes, and what can be done about it."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from experiment.settings import Settings, read_settings
from trainer.data.splits import load_data
from trainer.step_profile import CELLS, DROPOUT, ENCODER, LOADING, PYTHON, RECORDED, STRATEGY, WARM_UP, Profile, profile

IDLE = "device idle, waits for Python"
HEADINGS = {"forward": "forward", "backward": "backward", "not_chosen": "not chosen"}

ATTENTIONS = ("self-attention", "relational self-attention", "guided attention", "dense co-attention")
OPERATIONS = (*ATTENTIONS, "feed-forward", "identity", "none")

ADVICE = {
    "not chosen": (
        20,
        "Candidates that are not chosen take {share} %, for the gradient of the architecture: search.strategy: "
        "single_path does not compute them, but is another estimator.",
    ),
    "soft": (
        40,
        "The cells take {share} %: {strategy} computes every candidate with its gradient, in two batches a step; "
        "search.strategy: snas has one batch, and a gradient of the chosen candidates alone.",
    ),
    "recurrent": (
        25,
        "The recurrent question encoder takes {share} %: fewer nodes (encoder.nodes) or an lstm (encoder.name) cost "
        "less.",
    ),
    "encoder": (
        25,
        "The question encoder takes {share} %: shorter questions (data.max_tokens) or a smaller network.hidden cost "
        "less.",
    ),
    "padded": (
        25,
        "Attention takes {share} %, and {padding} % of the places of regions are padding: data.trim: true leaves most "
        "of them out.",
    ),
    "attention": (40, "Attention takes {share} %: fewer regions (data.max_regions) cost less."),
    "feed-forward": (
        35,
        "Feed-forwards take {share} %: network.feed_forward_size sets their width, which is {feed_forward_size}.",
    ),
    "head": (
        25,
        "The head takes {share} %: network.flat_out_size and the number of answers (data.min_answer_count) set its "
        "size.",
    ),
    "dropout": (15, "Dropout takes {share} %: network.dropout: 0 and network.channel_dropout: 0 draw no masks."),
    "loading": (15, "Loading takes {share} %: fewer regions (data.max_regions) or narrower features cost less."),
    "draw": (10, "The strategy and its draws take {share} %: encoder.resample: forward draws once a forward pass."),
    "idle": (
        30,
        "The device waits for Python {share} % of the time: a larger search.batch_size or network.hidden costs less "
        "than in proportion.",
    ),
    "between": (
        40,
        "{share} % pass between operations, which are small: a larger search.batch_size or network.hidden costs less "
        "than in proportion.",
    ),
}
"""What is large → the share of a step in percent from which it is, and what can be done."""


def run(console: Console, *, settings: Path) -> None:
    """Runs the first steps of the search of the settings, and prints where their time goes.

    Args:
        console: Where tables and advice are printed.
        settings: Settings file of the search.

    Raises:
        InputError: The settings or the data are wrong.
    """
    read = read_settings(settings)
    data = load_data(read.data)
    with console.status("the first steps of the search"):
        measured = profile(data, read.space_for(data.sizes), read.search, Path("runs/profile"))
    console.print(parts_table(measured, read), kinds_table(measured), soft_wrap=False)
    for sentence in advice(measured, read):
        console.print(f"- {sentence}", soft_wrap=False)
    console.print(f"every operation, for https://ui.perfetto.dev: {measured.trace}")


def shares(profile: Profile) -> dict[str, float]:
    """Returns the percentage of each part of a recorded step, the largest first. The idle time of a GPU is a part."""
    times = {part: cost.total for part, cost in profile.parts.items()}
    if profile.idle:
        times[IDLE] = profile.idle
    total = sum(times.values())
    return {part: 100 * times[part] / total for part in sorted(times, key=times.__getitem__, reverse=True)}


def parts_table(profile: Profile, settings: Settings) -> Table:
    """Returns a table with a line for each part, the costliest first, in milliseconds; empty columns are left out."""
    search = settings.search
    overhead = profile.recorded / profile.step - 1
    caption = (
        f"{profile.device}; {settings.space.name}, {search.strategy}, batches of {search.batch_size}, of whose places "
        f"of regions {100 * profile.padding:.0f} % are padding. Means of {RECORDED} steps after {WARM_UP} to warm up. "
        f"A step takes {profile.step:.1f} ms, and {profile.recorded:.1f} under the profiler"
    )
    caption += ", which makes parts of many small operations look larger than they are." if overhead > 0.1 else "."
    table = Table(box=box.SIMPLE_HEAD, padding=0, caption=caption, caption_justify="left")
    table.add_column("part of a step, ms", no_wrap=True)
    phases = [phase for phase in HEADINGS if any(getattr(cost, phase) for cost in profile.parts.values())]
    columns = [*(HEADINGS[phase] for phase in phases), "all", "%", "calls"]
    on_device = profile.idle > 0
    for title in [*columns, "on the host"] if on_device else columns:
        table.add_column(title, justify="right", no_wrap=True)
    encoder = f"{ENCODER} ({settings.encoder.name})"
    for part, share in shares(profile).items():
        if part == IDLE:
            cells = [*[""] * len(phases), f"{profile.idle:.1f}", f"{share:.1f}"]
        else:
            cost = profile.parts[part]
            times = [getattr(cost, phase) for phase in phases]
            cells = [*(f"{time:.1f}" if time else "" for time in times), f"{cost.total:.1f}", f"{share:.1f}"]
            cells += [f"{cost.calls:.0f}" if cost.calls else "", *([f"{cost.host:.1f}"] if on_device else [])]
        table.add_row(encoder if part == ENCODER else part, *cells)
    table.add_section()
    table.add_row("whole step", *[""] * len(phases), f"{profile.recorded:.1f}", "100.0")
    return table


def kinds_table(profile: Profile) -> Table:
    """Returns a table of the same time by kind of operation."""
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("kind of operation", no_wrap=True)
    for title in ("ms", "%"):
        table.add_column(title, justify="right", no_wrap=True)
    total = sum(profile.kinds.values())
    for kind, time in sorted(profile.kinds.items(), key=lambda item: -item[1]):
        table.add_row(kind, f"{time:.1f}", f"{100 * time / total:.1f}")
    return table


def advice(profile: Profile, settings: Settings) -> list[str]:
    """Returns one to three sentences on what can be done about the largest shares."""
    share = shares(profile)
    total = sum(cost.total for cost in profile.parts.values()) + profile.idle

    def percent(*parts: str) -> float:
        return sum(share.get(part, 0.0) for part in parts)

    overhead = max(0.0, profile.recorded - profile.step)  # of the profiler, nearly all of it between operations
    attention, recurrent = percent(*ATTENTIONS), settings.encoder.name == "recurrent"
    padded = profile.padding >= 0.15 and not settings.data.trim
    measured = {
        "not chosen": 100 * sum(cost.not_chosen for cost in profile.parts.values()) / total,
        "soft": percent(*OPERATIONS, CELLS) if settings.search.bilevel else 0.0,
        "recurrent": percent(ENCODER) if recurrent else 0.0,
        "encoder": 0.0 if recurrent else percent(ENCODER),
        "padded": attention if padded else 0.0,
        "attention": 0.0 if padded else attention,
        "feed-forward": percent("feed-forward"),
        "head": percent("attention-flatten", "classifier"),
        "dropout": 100 * profile.kinds.get(DROPOUT, 0.0) / total,
        "loading": percent(LOADING),
        "draw": percent(STRATEGY) if getattr(settings.encoder, "resample", None) == "step" else 0.0,
        "idle": percent(IDLE),
        "between": 0.0 if profile.idle else 100 * (profile.kinds[PYTHON] - overhead) / profile.step,
    }
    large = [what for what, (least, _) in ADVICE.items() if measured[what] >= least]
    if not large:
        part = next(iter(share))
        return [f"No part stands out; the largest, {part}, takes {share[part]:.0f} %."]
    words = {
        "strategy": settings.search.strategy,
        "feed_forward_size": settings.network.feed_forward_size or 4 * settings.network.hidden,
        "padding": f"{100 * profile.padding:.0f}",
    }
    large.sort(key=measured.__getitem__, reverse=True)
    return [ADVICE[what][1].format(share=f"{measured[what]:.0f}", **words) for what in large[:3]]
