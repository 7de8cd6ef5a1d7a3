"""The profile of a search's step: every part has its time, forward, backward and not chosen, and they add up."""

import json
import sys
import time
from dataclasses import replace
from io import StringIO
from itertools import count
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console

import launch
from experiment.actions.profile import IDLE, advice, parts_table, shares
from experiment.settings import Settings
from tests.helpers.tiny import tiny_network
from trainer.step_profile import (
    ARCHITECTURE,
    DROPOUT,
    ENCODER,
    LOADING,
    LOSS,
    MATRIX,
    OTHER,
    PYTHON,
    RANGE,
    REST,
    STEP,
    STRATEGY,
    WEIGHTS,
    PartTime,
    Profile,
    attribute,
    profile,
    read_trace,
)

SPACE = {"name": "stacked", "edges": "one", "cells": 1, "nodes": 2}
SETTINGS = {
    "snas": {"space": SPACE, "search": {"strategy": "snas"}},
    "single_path": {"space": SPACE, "search": {"strategy": "single_path"}},
    "darts": {"space": SPACE, "search": {"strategy": "darts"}},
    "gumbel_darts": {"space": SPACE, "search": {"strategy": "gumbel_darts"}},
    "recurrent": {"space": {"name": "mcan", "layers": 1}, "encoder": {"name": "recurrent", "nodes": 2, "edges": "one"}},
    "encoder_decoder": {"space": {"name": "encoder_decoder", "encoder_blocks": 1, "decoder_blocks": 2}},
    "paired": {"space": {"name": "paired", "layers": 1}},
}


@pytest.fixture(scope="module")
def settings(tiny_data_settings):
    def settings(name: str) -> Settings:
        content = {"data": tiny_data_settings.model_dump(mode="json"), "network": tiny_network().model_dump()}
        content |= SETTINGS[name]
        return Settings.model_validate(content | {"search": {"batch_size": 16} | content.get("search", {})})

    return settings


@pytest.fixture(scope="module")
def profiled(settings, tiny_data, tmp_path_factory):
    """Profiles, each measured once."""
    known: dict[str, Profile] = {}

    def profiled(name: str) -> Profile:
        if name not in known:
            chosen = settings(name)
            known[name] = profile(
                tiny_data, chosen.space_for(tiny_data.sizes), chosen.search, tmp_path_factory.mktemp(name)
            )
        return known[name]

    return profiled


@pytest.mark.parametrize("name", SETTINGS)
def test_the_parts_add_up_to_the_step(name, profiled):
    measured = profiled(name)
    assert {ENCODER, LOADING, LOSS, REST, WEIGHTS, ARCHITECTURE, "classifier"} <= measured.parts.keys()
    assert sum(shares(measured).values()) == pytest.approx(100)
    assert sum(cost.total for cost in measured.parts.values()) == pytest.approx(measured.recorded)
    # What was attributed, without what is left over, is nearly all of the time that a clock measured.
    assert sum(measured.kinds.values()) == pytest.approx(measured.recorded, rel=0.3)
    for part, cost in measured.parts.items():
        assert min(cost.forward, cost.backward, cost.not_chosen) >= 0, part
        assert cost.host == pytest.approx(cost.total) or part == REST
    assert measured.idle == 0 and measured.step > 0


def test_every_candidate_of_a_soft_strategy_runs_forward_and_backward(profiled):
    """Two batches; in each an operation a node and stream, and the feed-forwards before and after the cell."""
    for name in ("darts", "gumbel_darts"):
        parts = profiled(name).parts
        calls = {"feed-forward": 2 * (4 + 6), "self-attention": 2 * 4, "guided attention": 2 * 4, "none": 2 * 4}
        assert {part: parts[part].calls for part in calls} == pytest.approx(calls)
        assert not any(cost.not_chosen for cost in parts.values())
        assert all(parts[part].backward > 0 for part in calls if part != "none")
        assert parts[ENCODER].calls == pytest.approx(2)


def test_a_single_path_runs_the_chosen_candidates_alone(profiled):
    """One batch: the feed-forwards before and after the cell, and one operation a node and stream."""
    parts = profiled("single_path").parts
    assert not any(cost.not_chosen for cost in parts.values())
    operations = ("feed-forward", "self-attention", "guided attention", "none", "identity")
    assert sum(parts[part].calls for part in operations if part in parts) == pytest.approx(6 + 4)
    assert parts[STRATEGY].forward > 0


@pytest.mark.parametrize("name", ["snas", "encoder_decoder", "paired"])
def test_candidates_that_were_not_chosen_are_told_apart(name, profiled):
    parts = profiled(name).parts
    assert parts["self-attention"].not_chosen > 0
    fixed = {ENCODER, "image projection", "attention-flatten", "classifier", LOADING, LOSS, WEIGHTS, ARCHITECTURE}
    assert not any(parts[part].not_chosen for part in fixed)
    assert all(parts[part].backward > 0 for part in (ENCODER, "attention-flatten", "classifier", LOSS))


def test_a_recurrent_encoder_is_one_part_with_all_its_candidates(profiled):
    parts = profiled("recurrent").parts
    assert parts[ENCODER].calls == pytest.approx(1) and parts[ENCODER].backward > 0
    assert "none" not in parts  # it is an activation of the encoder here, and no operation of a cell
    assert parts["self-attention"].calls == pytest.approx(2)


def test_the_trace_is_a_file_of_its_own(profiled):
    content = json.loads(profiled("snas").trace.read_text())
    assert any(event.get("name") == f"{RANGE}self-attention" for event in content["traceEvents"])


class Sleep(torch.autograd.Function):
    """Sleeps 20 ms in the backward pass, and lets another module sleep in there."""

    @staticmethod
    def forward(ctx, x, inside):
        ctx.inside = inside
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(0.02)
        if ctx.inside:
            with torch.profiler.record_function(f"{RANGE}identity"):
                time.sleep(0.03)
        return gradient, None


def test_a_custom_function_has_its_backward_pass_in_its_part(tmp_path):
    def part(name: str, x: torch.Tensor, inside: bool) -> torch.Tensor:
        with torch.profiler.record_function(RANGE + name):
            return Sleep.apply(x * 2, inside) * 2

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(2):
            with torch.profiler.record_function(STEP):
                x = torch.ones(3, requires_grad=True)
                part("feed-forward", part("self-attention", x, inside=False), inside=True).sum().backward()
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    costs, _ = attribute(read_trace(tmp_path / "trace.json"), steps=2, on_device=False)
    assert costs["self-attention"].backward >= 20
    assert costs["feed-forward"].backward >= 20
    assert costs["identity"].not_chosen >= 30 and costs["identity"].calls == 1
    assert costs["self-attention"].not_chosen == costs["feed-forward"].not_chosen == 0


def test_on_a_device_the_kernels_count_and_the_backward_pass_has_a_thread_of_its_own(tmp_path):
    times = count()
    trace = []

    def event(name, category="cpu_op", thread=1, number=-1, lasts=7.0, kernel=None):
        """On the host from now on; the kernel that it launches is on the device."""
        start = 10 * next(times)
        arguments = {"Sequence number": number} if number >= 0 else {}
        trace.append({"ph": "X", "cat": category, "name": name, "tid": thread, "ts": start, "dur": lasts})
        trace[-1]["args"] = arguments
        if kernel is not None:
            launch = {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "tid": thread, "ts": start + 1}
            trace.append(launch | {"dur": 2.0, "args": {"correlation": start}})
            on_device = {"ph": "X", "cat": "kernel", "name": "gemm", "tid": 7, "ts": start + 900, "dur": kernel}
            trace.append(on_device | {"args": {"correlation": start}})

    engine = "autograd::engine::evaluate_function: "
    event("aten::mm", kernel=1e6)  # before the first step
    event(STEP, "user_annotation", lasts=1000)
    trace.append(trace[-1] | {"cat": "gpu_user_annotation", "tid": 7})
    event("aten::detach", number=5)  # has no gradient, and so the number of what comes next
    event(f"{RANGE}feed-forward", "user_annotation", lasts=25)
    event("aten::mm", number=5, kernel=30)
    event("aten::native_dropout", number=6, kernel=2)
    event(f"{RANGE}{LOSS}", "user_annotation", lasts=15)
    event("aten::detach", number=7)
    event(f"{engine}NativeDropoutBackward0", thread=2, number=6, lasts=18)
    event("aten::mul", thread=2, kernel=4)
    event(f"{engine}MmBackward0", thread=2, number=5, lasts=38)
    event("aten::mm", thread=2, kernel=60)
    event(f"{RANGE}self-attention", "user_annotation", thread=2, lasts=15)
    event("aten::bmm", thread=2, number=7, kernel=10)
    event(f"{engine}torch::autograd::AccumulateGrad", thread=2, lasts=18)
    event("aten::add_", thread=2, kernel=5)
    file = tmp_path / "trace.json"
    file.write_text(json.dumps({"traceEvents": trace}))

    costs, kinds = attribute(read_trace(file), steps=1, on_device=True)
    assert costs["feed-forward"].forward == pytest.approx(0.032)
    assert costs["feed-forward"].backward == pytest.approx(0.069)
    assert costs["self-attention"] == PartTime(not_chosen=pytest.approx(0.01), calls=1, host=pytest.approx(0.015))
    assert sum(cost.total for cost in costs.values()) == pytest.approx(0.111)
    assert kinds == pytest.approx({MATRIX: 0.1, DROPOUT: 0.006, OTHER: 0.005, PYTHON: 0.0})


@pytest.fixture
def measured() -> Profile:
    """Nothing in it stands out."""
    parts = {
        "self-attention": PartTime(20, 10),
        "feed-forward": PartTime(10, 10),
        LOADING: PartTime(5),
        REST: PartTime(45),
    }
    kinds = {MATRIX: 80.0, PYTHON: 20.0}
    return Profile(parts, kinds, recorded=100.0, step=90.0, padding=0.1, device="CPU", trace=Path("trace.json"))


def test_advice_follows_from_the_figures(measured, settings):
    snas, darts, recurrent = settings("snas"), settings("darts"), settings("recurrent")
    assert advice(measured, snas) == ["No part stands out; the largest, rest: the training loop, takes 45 %."]

    idle = replace(measured, idle=100.0)
    assert [sentence for sentence in advice(idle, snas) if "waits for Python 50 %" in sentence]

    between = replace(measured, kinds={PYTHON: 70.0})
    assert advice(between, snas)[0].startswith("67 % pass between operations")
    # Where the profiler itself took it, nothing is said.
    assert "between operations" not in advice(replace(between, step=40.0), snas)[0]

    parts = measured.parts | {REST: PartTime(5), "self-attention": PartTime(20, 10, not_chosen=40)}
    assert "not chosen take 40 %" in "".join(advice(replace(measured, parts=parts), snas))

    parts = {ENCODER: PartTime(30, 30), "self-attention": PartTime(5, 5), LOADING: PartTime(20), REST: PartTime(10)}
    shown = advice(replace(measured, parts=parts), recurrent)
    assert "recurrent question encoder takes 60 %" in shown[0] and "Loading takes 20 %" in shown[1] and len(shown) == 2
    assert "question encoder takes 60 %: shorter" in advice(replace(measured, parts=parts), snas)[0]

    parts = {"self-attention": PartTime(30, 20), REST: PartTime(50)}
    assert "darts computes every candidate" in advice(replace(measured, parts=parts), darts)[0]
    untrimmed = snas.model_copy(update={"data": snas.data.model_copy(update={"trim": False})})
    padded = replace(measured, parts=parts, padding=0.6)
    assert "60 % of the places of regions are padding" in advice(padded, untrimmed)[0]
    assert "data.trim" not in "".join(advice(padded, snas))


def test_at_most_three_sentences_the_largest_share_first(measured, settings):
    parts = {"feed-forward": PartTime(35), "classifier": PartTime(25), LOADING: PartTime(14), ENCODER: PartTime(26)}
    shown = advice(replace(measured, parts=parts, kinds={PYTHON: 0.0}), settings("snas"))
    assert [sentence.split(" take")[0] for sentence in shown] == ["Feed-forwards", "The question encoder", "The head"]


def rendered(measured: Profile, settings: Settings) -> str:
    console = Console(width=80, record=True, file=StringIO())
    console.print(parts_table(measured, settings))
    return console.export_text()


def test_the_table_fits_80_columns_and_has_the_columns_that_it_needs(profiled, settings, measured):
    text = rendered(profiled("snas"), settings("snas"))
    assert "…" not in text
    assert all(part in text for part in ("self-attention", "question encoder (lstm)", "not chosen", "whole step"))
    assert "not chosen" not in rendered(profiled("darts"), settings("darts"))
    assert IDLE in rendered(replace(measured, idle=20.0), settings("snas"))


def run(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["launch.py", *map(str, arguments)])
    try:
        launch.main()
        code = 0
    except SystemExit as exit:
        code = exit.code
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command(settings, tmp_path, monkeypatch, capsys):
    file = tmp_path / "settings.yml"

    def write(**changes) -> Path:
        file.write_text(yaml.safe_dump(settings("snas").model_dump(mode="json") | changes))
        return file

    write()
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(monkeypatch, capsys, "--profile", "--settings", file)
    assert code == 0 and "self-attention" in out and "matrix products" in out
    assert (tmp_path / "runs/profile/trace.json").exists() and "runs/profile/trace.json" in out
    assert not list(tmp_path.rglob("*.ckpt"))

    code, _, error = run(monkeypatch, capsys, "--profile", "--settings", write(space={"name": "dcn", "layers": 1}))
    assert code == 2 and "nothing to search" in error and error.count("\n") == 1
    code, _, error = run(monkeypatch, capsys, "--profile", "--settings", write(search={"batch_size": 1000}))
    assert code == 2 and "search.batch_size" in error and error.count("\n") == 1
    code, _, error = run(monkeypatch, capsys, "--profile", "--settings", tmp_path / "none.yml")
    assert code == 2 and "none.yml" in error
