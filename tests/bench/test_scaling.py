# SPDX-License-Identifier: Apache-2.0
"""Scaling curves: one tiny measurement of all of them, and the laws of their ideal lines."""

import os
import re
import shlex
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from rich.console import Console

from pippin.bench.scaling import measure_scaling as measuring
from pippin.bench.scaling import process_curve, training_curves
from pippin.bench.scaling.config import CURVES, ScalingConfig
from pippin.bench.scaling.declarations import Law, Measured
from pippin.bench.scaling.measure_scaling import FAMILIES, measure_scaling
from pippin.bench.scaling.metric_curves import MIB, block_bytes
from pippin.bench.scaling.scaling_record import ScalingRecord
from pippin.bench.scaling.training_curves import base_case
from pippin.bench.scaling.turns import MAX_ROUNDS, MIN_ROUNDS, take_turns
from pippin.cli.bench_scaling import ScalingCommand, page_curve
from pippin.cli.main import main
from pippin.cli.parsing.options import parse
from pippin.config import ConfigError
from pippin.reports.scaling_page import summary_row

CPU = torch.device("cpu")
TINY = ScalingConfig(
    peers=("published-dit", "fast-dit"),
    seconds=0.0,
    longest=1e9,
    depth=1,
    width=32,
    head_width=16,
    image_tokens=16,
    batch_size=2,
    precision="fp32",
    tokens=(4, 16),
    widths=(16, 32),
    batches=(1, 2),
    text_tokens=(4, 8),
    processes=(1, 2),
    images=(4, 8),
    resolution=16,
    samples=(8, 2000),
    features=16,
    device="cpu",
)
KEYS = [
    *("tokens", "width", "batch", "text", "processes", "cache-build", "cache-read"),
    *("kid-seconds", "kid-memory", "prdc-seconds", "prdc-memory"),
]


def forked(folder):
    """Ranks of forked processes, which need not import torch again."""

    def run_ranks(size, work, *arguments):
        everything = (size, work, folder, arguments)
        mp.start_processes(save_result, everything, nprocs=size, start_method="fork")
        return torch.load(folder / "0")

    return run_ranks


def save_result(rank, size, work, folder, arguments):
    torch.save(work(rank, size, str(folder / "meeting"), *arguments), folder / str(rank))


@pytest.fixture(scope="module")
def scaling(tmp_path_factory):
    """The record of all curves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process_curve, "run_ranks", forked(tmp_path_factory.mktemp("ranks")))
        patch.setattr(process_curve.os, "cpu_count", lambda: 2)
        return measure_scaling(TINY, Console(quiet=True))


def test_every_curve_is_measured_at_every_point(scaling, tmp_path):
    assert [curve.key for curve in scaling.curves] == KEYS
    axes = {curve.key: [p.x for p in curve.series[0].points] for curve in scaling.curves}
    assert axes["tokens"] == [4, 16] and axes["cache-read"] == [4, 8]
    assert axes["processes"] == [1, 2] and axes["prdc-memory"] == [8, 2000]
    assert not any(curve.left_out for curve in scaling.curves)
    scaling.save(tmp_path / "scaling.json")
    assert ScalingRecord.load(tmp_path / "scaling.json") == scaling


def test_ideal_lines_start_at_the_first_point_but_that_of_counted_memory(scaling):
    for curve in scaling.curves:
        for series in curve.series:
            for point in series.points:
                assert point.value.low <= point.value.median <= point.value.high
                assert point.ideal > 0
            first = series.points[0]
            if not curve.key.endswith("-memory"):
                assert first.ideal == pytest.approx(first.value.median)
                assert first.of_ideal == pytest.approx(1)


def test_memory_is_that_of_both_sides_and_some_blocks(scaling):
    curves = {curve.key: curve for curve in scaling.curves}
    for key in ("kid-memory", "prdc-memory"):
        point = curves[key].series[0].points[-1]
        assert point.ideal > 30  # MiB: one block of 2000 x 2000 pairs
        if os.access("/proc/self/clear_refs", os.W_OK):  # otherwise the peak is not reset
            assert 0.8 < point.of_ideal < 10  # a block has some copies


def test_peers_take_turns_with_pippin(scaling):
    tokens, *others = scaling.curves
    assert [series.name for series in tokens.series] == ["pippin", *TINY.peers]
    assert all([series.name for series in curve.series] == ["pippin"] for curve in others)
    own, published = tokens.series[:2]
    assert own.points[0].ratio is None
    for mine, theirs in zip(own.points, published.points, strict=True):
        assert mine.value.windows == theirs.ratio.windows == 1
        assert theirs.ratio.median == pytest.approx(mine.value.median / theirs.value.median)


def law(name, index=0, config=TINY):
    return FAMILIES[name](config).curves[index].law


def forward_macs(tokens, width, depth):
    """The formula of docs/reference/bench.md, with 16 numbers a patch and an MLP ratio of 4."""
    block = tokens * width**2 * 12 + 2 * tokens**2 * width + 6 * width**2
    return 2 * 16 * tokens * width + depth * block + 2 * width**2


def training_flops(tokens, width, depth):
    first_layer = 16 * tokens * width  # whose input needs no gradient
    return 2 * (3 * forward_macs(tokens, width, depth) - first_layer)


def test_counted_flops_have_the_closed_form():
    deep = replace(TINY, depth=3)
    assert base_case(deep).flops() == training_flops(16, 32, 3)
    by_tokens, by_width = law("tokens", config=deep), law("width", config=deep)
    for small, large in [(4, 16), (16, 64)]:
        ratio = training_flops(large, 32, 3) / training_flops(small, 32, 3)
        assert by_tokens.ideal([small, large], 1.0)[1] == pytest.approx(1 / ratio, rel=1e-12)
    ratio = training_flops(16, 64, 3) / training_flops(16, 16, 3)
    assert by_width.ideal([16, 64], ratio)[1] == pytest.approx(1.0, rel=1e-12)


def test_other_laws_have_closed_forms():
    assert law("batch").ideal([1, 2, 8], 5.0) == (5.0, 5.0, 5.0)
    assert law("data").ideal([10, 1000], 3.0) == (3.0, 3.0)
    assert law("processes").ideal([1, 2, 8], 5.0) == (5.0, 10.0, 40.0)
    for metric in ("kid", "prdc"):
        assert law(metric).ideal([10, 30], 2.0) == pytest.approx((2.0, 18.0))
    assert law("text").ideal([4, 8], 1.0)[1] < 1  # longer text costs more
    assert Law(words="", relative=float, anchored=False).ideal([3, 4], 100.0) == (3.0, 4.0)


def test_memory_grows_with_the_square_only_up_to_one_block():
    cells = 2**23
    assert block_bytes(1000, 2048, cells) == 8 * (2 * 1000 * 2048 + 1000**2)
    assert block_bytes(50_000, 2048, cells) == 8 * (2 * 50_000 * 2048 + 167 * 50_000)
    assert law("kid", 1).ideal([50_000], 1.0)[0] == block_bytes(50_000, 16, cells) / MIB


def family(calls, **settings):
    """A family whose call takes as many seconds as its point."""

    def measure(point):
        calls.append(point)
        return Measured(values={"kid-seconds": {"pippin": [point]}}, call_seconds=point)

    declared = replace(FAMILIES["kid"](TINY), points=(1, 2, 20, 21, 90), measure=measure)
    return replace(declared, curves=declared.curves[:1], cost=float, **settings)


def test_a_point_that_would_take_too_long_is_left_out():
    calls = []
    config = replace(TINY, longest=20.0)
    (curve,) = measuring._measure_family(family(calls), config, Console(quiet=True))
    assert calls == [1, 2, 20]
    assert curve.left_out == (
        "21: a call takes 21 s, predicted from 20; the limit is 20 s",
        "90: a call takes 90 s, predicted from 20; the limit is 20 s",
    )


def test_nothing_is_predicted_from_a_call_of_fixed_costs():
    calls = []
    short = Measured(values={"kid-seconds": {"pippin": [0.4]}}, call_seconds=0.4)
    declared = replace(family([]), points=(1, 900), measure=lambda n: calls.append(n) or short)
    (curve,) = measuring._measure_family(declared, TINY, Console(quiet=True))
    assert calls == [1, 900] and not curve.left_out


def test_a_machine_without_room_is_named():
    calls = []
    limited = family(calls, limit=2, limit_words="this machine has 2 GPUs")
    (curve,) = measuring._measure_family(limited, TINY, Console(quiet=True))
    assert calls == [1, 2] and curve.left_out[0] == "20: this machine has 2 GPUs"


@pytest.mark.parametrize("name", ["tokens", "processes"])
def test_training_steps_are_timed_with_the_heap_of_training(name, monkeypatch):
    held = []

    @contextmanager
    def heap(device):
        held.append(device)
        yield
        held.clear()

    def turns(calls, *_):
        assert held == [CPU]
        return {name: [1.0] for name in calls}

    module = {"tokens": training_curves, "processes": process_curve}[name]
    monkeypatch.setattr(module, "retained_heap", heap)
    monkeypatch.setattr(module, "take_turns", turns)
    assert FAMILIES[name](TINY).measure(1).values[name]["pippin"] == [2.0] and not held


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_calls_take_turns_until_the_budget_is_used(clock):
    order = []

    def call(name, seconds):
        def run():
            order.append(name)
            clock[0] += seconds

        return run

    seconds = take_turns({"a": call("a", 1.0), "b": call("b", 3.0)}, 10.0, CPU)
    assert seconds == {"a": [1.0] * 5, "b": [3.0] * 5}  # 5 rounds of 4 s use 20 s
    assert order == ["a", "b"] * 6  # the first round is a warm-up
    assert take_turns({"a": call("a", 11.0)}, 10.0, CPU) == {"a": [11.0]}  # no second call
    assert len(take_turns({"a": call("a", 9.0)}, 10.0, CPU)["a"]) == MIN_ROUNDS
    assert len(take_turns({"a": call("a", 1e-6)}, 10.0, CPU)["a"]) == MAX_ROUNDS
    doubled = take_turns({"a": call("a", 1.0)}, 10.0, CPU, agree=lambda own: 2 * own)
    assert doubled == {"a": [2.0] * 5}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tokens": (64, 128)}, "square numbers, .*; got 128"),
        ({"widths": (192, 200)}, "head_width 64; got 200"),
        ({"samples": (1000, 1000)}, "scaling.samples must be growing numbers from 8 on"),
        ({"processes": ()}, "scaling.processes .*; got none"),
        ({"curves": ()}, f"one or more of {', '.join(CURVES)}"),
        ({"peers": ("fast-dit", "fast-dit")}, "scaling.peers must name each once"),
        ({"resolution": 20}, "multiple of 8; got 20"),
        ({"longest": 0.0}, "scaling.longest must be more than 0"),
    ],
)
def test_points_that_cannot_be_measured_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        ScalingConfig(**settings)


WORDS = [
    *("bench", "--scaling", "--scaling.curves", "kid", "--scaling.samples", "8", "16"),
    *("--scaling.features", "4", "--scaling.seconds", "0"),
]


def test_the_command_writes_a_record_and_a_page_that_can_be_drawn_again(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main([*WORDS, "--out", "scaling.json", "--page", "scaling.html"]) == 0
    assert "Time of KID" in capsys.readouterr().out
    page = tmp_path / "scaling.html"
    first = page.read_text(encoding="utf-8")
    assert main(["bench", "--scaling", "--record", "scaling.json", "--page", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "missing/scaling.json"], "--out: folder missing does not exist"),
        (["--page", "scaling.pdf"], "written as .html: type --out scaling.html"),
        (["--record", "scaling.json"], "give --page FILE.html beside it"),
    ],
)
def test_misuse_is_named_before_the_measurement(words, said, monkeypatch, capsys):
    monkeypatch.setattr(measuring, "measure_scaling", None)
    assert main(["bench", "--scaling", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


ROOT = Path(__file__).parents[2]


def markdown_row(curve):
    """Row of a curve in the documentation: curve, axis, first, last, last / ideal."""
    axis, first, last, ratio = summary_row(curve).cells
    cells = (curve.title, f"{axis.text}, {axis.remarks[0]}", first.text, last.text, ratio.text)
    return f"| {' | '.join(cells)} |"


def test_the_documentation_has_the_rows_of_the_kept_record():
    record = ScalingRecord.load(ROOT / "results" / "scaling-cpu" / "scaling.json")
    page = (ROOT / "docs/reference/bench.md").read_text(encoding="utf-8")
    assert [curve.key for curve in record.curves] == KEYS
    for curve in record.curves:
        assert markdown_row(page_curve(curve)) in page


def test_commands_of_the_documentation_are_understood():
    page = (ROOT / "docs/reference/bench.md").read_text(encoding="utf-8")
    block = page.partition("## Scaling")[2].partition("\n## ")[0]
    lines = re.sub(r"\n {8}", " ", block)
    commands = re.findall(r"^    pippin bench --scaling(.*)$", lines, re.M)
    assert len(commands) == 4
    for words in commands:
        given = shlex.split(words, comments=True)
        parse(ScalingCommand, "", given, ScalingCommand())


def test_a_point_without_memory_is_left_out_and_the_others_stay(monkeypatch):
    def exhausted(point):
        if point == 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Measured(values={"width": {"pippin": [float(point)]}}, call_seconds=0.0)

    family = replace(FAMILIES["width"](TINY), measure=exhausted)
    monkeypatch.setitem(FAMILIES, "width", lambda config: family)
    config = replace(TINY, curves=("width",), widths=(16, 32))
    (curve,) = measure_scaling(config, Console(quiet=True)).curves
    assert curve.left_out == ("16: not enough memory",)
    assert [point.x for point in curve.series[0].points] == [32]
