# SPDX-License-Identifier: Apache-2.0
"""``scripts/gpu_check.py`` at tiny size on the CPU, and as a GPU would run it."""

import importlib
import json
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cuda_rehearsal import rehearsal

from pippin.bench.config import BenchConfig
from pippin.denoisers.dit.config import DiTConfig

ROOT = Path(__file__).parents[2]
CPU = ["--device", "cpu", "--size", "tiny", "--minutes", "5"]
LATE = 0.3
"""Seconds after which a slow task is stopped."""


@pytest.fixture(scope="module")
def script():
    """The script's module; its own are beside it in ``gpu``."""
    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module("gpu_check")
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture
def parts(script, monkeypatch):
    """Its modules by name, for one denoiser of two blocks."""
    names = ("agreement", "training", "drawing", "section", "models", "study")
    modules = {name: importlib.import_module(f"gpu.{name}") for name in names}
    for name in ("agreement", "training", "drawing"):
        monkeypatch.setattr(modules[name], "KINDS", ("dit",))
    small = DiTConfig(depth=2, width=32, num_heads=2)
    monkeypatch.setattr(modules["models"], "tiny_denoiser", lambda kind: small)
    short = BenchConfig(windows=1, steps=1, warmup=1, matmul_side=128)
    monkeypatch.setattr(modules["training"], "measurement", lambda settings: short)
    monkeypatch.setattr(modules["agreement"], "STEPS", 2)
    monkeypatch.setitem(modules["drawing"].STEPS, "tiny", 2)
    return SimpleNamespace(**modules)


def run(script, path, *sections):
    """Exit code, and the sections of the JSON file by name."""
    code = script.main([*CPU, "--only", *sections, "--out", str(path)])
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert set(content) == {
        *("format", "device", "size", "minutes", "compiled", "sections", "problems")
    }
    for section in content["sections"]:
        assert set(section) == {
            *("name", "status", "seconds", "rows", "failures", "skipped", "message")
        }
    names = [section["name"] for section in content["sections"]]
    assert len(set(names)) == len(names)
    return code, {section["name"]: section for section in content["sections"]}


@pytest.mark.usefixtures("parts")
def test_tiny_denoisers_are_checked_on_a_cpu(script, tmp_path):
    names = ("environment", "numbers", "bf16", "training", "optimizer", "sampling", "plan")
    code, sections = run(script, tmp_path / "out.json", *names)
    assert code == 0
    assert list(sections) == list(names)
    assert all(sections[name]["status"] == "measured" for name in names)
    quantities = [row["quantity"] for row in sections["numbers"]["rows"]]
    assert quantities == ["forward", "gradients", "trajectory", "features"]
    assert all(row["error"] < 1e-6 for row in sections["numbers"]["rows"])  # of one device
    assert all(0 < row["error"] < row["tolerance"] for row in sections["bf16"]["rows"])
    modes = [(row["compiled"], row["checkpointing"]) for row in sections["training"]["rows"]]
    assert modes == [(False, 0), (False, 1)]
    for row in sections["training"]["rows"]:
        assert row["images_per_second"]["median"] > 0 and row["of_data_sheet"] is None
        expected = row["gflops_per_image"] * row["batch"] / row["step_seconds"] / 1e3
        assert row["mfu"] == pytest.approx(expected / row["matmul_tflops"], rel=1e-6)
    saved, recomputed = (row["planned_memory"] for row in sections["plan"]["rows"])
    assert saved > recomputed and sections["plan"]["rows"][0]["measured_memory"] is None


def test_changed_weights_are_outside_the_tolerance(script, parts, monkeypatch, tmp_path):
    """As small a change as TF32 makes: 10 bits of each weight are kept."""
    original = parts.agreement.on_device

    def rounded(model, device):
        model = original(model, device)
        for weight in model.parameters():
            weight.data = (weight.data.view(torch.int32) + 0x1000 & ~0x1FFF).view(torch.float32)
        return model

    monkeypatch.setattr(parts.agreement, "on_device", rounded)
    code, sections = run(script, tmp_path / "out.json", "numbers")
    within = {row["quantity"]: row["within"] for row in sections["numbers"]["rows"]}
    assert within == {
        "forward": False,
        "gradients": False,
        "trajectory": False,
        "features": True,
    }
    assert code == 1


def test_a_number_that_is_not_finite_is_outside(parts):
    row = parts.agreement.AgreementRow(
        error=float("nan"), tolerance=1.0, model="dit", quantity="forward"
    )
    assert not row.within
    nan, one = torch.tensor([float("nan")]), torch.ones(1)
    assert not parts.agreement.largest_error([one, nan], [one, one]) <= 1
    assert not parts.agreement.largest_error([nan, one], [one, one]) <= 1


def test_a_failure_is_recorded_and_the_rest_goes_on(script, parts, monkeypatch, tmp_path):
    def fail(recipe, model):
        raise RuntimeError("no kernel for this GPU")

    quantities = parts.agreement.QUANTITIES | {"gradients": fail}
    monkeypatch.setattr(parts.agreement, "QUANTITIES", quantities)
    code, sections = run(script, tmp_path / "out.json", "environment", "numbers", "optimizer")
    assert code == 1
    numbers = sections["numbers"]
    assert numbers["status"] == "failed"
    assert [row["quantity"] for row in numbers["rows"]] == ["forward", "features"]
    assert numbers["failures"] == [
        {
            "task": "dit",
            "message": "RuntimeError: no kernel for this GPU",
            "out_of_time": False,
        }
    ]
    assert [row["implementation"] for row in sections["optimizer"]["rows"]] == ["fused", "foreach"]


def test_batches_are_halved_until_they_fit(parts):
    tried = []

    def run(batch):
        tried.append(batch)
        if batch > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch

    assert parts.models.largest_fitting(16, run, torch.device("cpu")) == 2
    assert tried == [16, 8, 4, 2]
    tried.clear()
    with pytest.raises(torch.OutOfMemoryError):
        parts.models.largest_fitting(2, lambda batch: run(batch + 8), torch.device("cpu"))
    assert tried == [10, 9]


def context_of(parts, folder, seconds):
    settings = parts.section.Settings(
        device=torch.device("cpu"),
        size="tiny",
        minutes=seconds / 60,
        compiled=False,
        study_folder=folder / "study",
    )
    return parts.section.Context(settings=settings, folder=folder)


def test_slow_tasks_are_stopped_and_later_ones_named(parts, tmp_path):
    def slow():
        yield 1
        try:
            time.sleep(60)
        except parts.section.TimeLimitError as error:
            raise ValueError("wrapped by a library") from error

    tasks = [parts.section.Task(name=name, run=slow) for name in ("first", "second")]
    quick = parts.section.Task(name="third", run=lambda: iter([2]))
    sections = [
        parts.section.Section(name="slow", share=0.025, tasks=lambda _: tasks),
        parts.section.Section(name="quick", share=0.975, tasks=lambda _: [quick]),
    ]
    context, done = context_of(parts, tmp_path, 40 * LATE), []
    parts.section.run_sections(sections, context, done.append)
    slow_result, quick_result = done
    assert slow_result.rows == (1,) and slow_result.skipped == ("second",)
    assert slow_result.failures[0].task == "first" and slow_result.failures[0].out_of_time
    assert slow_result.status == "partial"
    assert quick_result.rows == (2,) and quick_result.status == "measured"


def test_a_study_is_stopped_at_its_time(parts, tmp_path):
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "print('started', flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    assert parts.study.run_for([sys.executable, "-c", program], 1.0, log) in (75, -15)
    assert parts.study.run_for([sys.executable, "-c", "raise SystemExit(3)"], 60, log) == 3


def test_a_study_needs_the_time_of_a_run(parts, tmp_path, monkeypatch):
    context = context_of(parts, tmp_path, 600)
    context.end = context.clock() + 600
    with pytest.raises(parts.section.SectionSkippedError, match="--only study"):
        list(parts.study.tasks(context))
    monkeypatch.setattr(parts.section.Settings, "is_cuda", True)
    monkeypatch.setattr(parts.study, "minutes_of_a_run", lambda *_: 20.0)
    with pytest.raises(parts.section.SectionSkippedError, match=r"about 20 minutes .* larger"):
        list(parts.study.tasks(context))
    monkeypatch.setattr(parts.study, "minutes_of_a_run", lambda *_: 5.0)
    assert [task.name for task in parts.study.tasks(context)] == ["control, demo"]


def test_the_published_dit_is_timed_with_equal_weights(script, tmp_path, monkeypatch):
    baselines = importlib.import_module("gpu.baselines")
    monkeypatch.setattr(baselines, "get_args", lambda _: ())
    code, sections = run(script, tmp_path / "out.json", "baselines")
    assert code == 0
    rows = sections["baselines"]["rows"]
    assert [(row["against"], row["backward"]) for row in rows] == [
        ("published", False),
        ("published", True),
    ]


def test_misuse_is_named(script, tmp_path, capsys):
    assert script.main([*CPU, "--out", str(tmp_path / "missing" / "out.json")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert script.main(["--device", "abacus"]) == 2
    assert "abacus" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script.main(["--minutes", "0"])


@pytest.fixture
def gpu(monkeypatch):
    """Rehearsed CUDA with the properties of an H200; counts of the calls of ``torch.cuda``."""
    properties = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, multi_processor_count=132)
    calls = Counter()
    answers = {
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "empty_cache": None,
        "max_memory_allocated": 10**9,
        "mem_get_info": (130 * 10**9, 141 * 10**9),
        "get_device_properties": properties,
        "get_device_name": "NVIDIA H200",
    }
    with rehearsal():
        for name, answer in answers.items():

            def call(*_, name=name, answer=answer):
                calls[name] += 1
                return answer

            monkeypatch.setattr(torch.cuda, name, call)
        yield calls


def test_sections_run_on_a_rehearsed_gpu(script, parts, gpu, tmp_path, monkeypatch):
    """Its numbers are not those of the CPU, so comparisons differ; nothing else may fail."""
    path = tmp_path / "out.json"
    monkeypatch.setattr(parts.study, "minutes_of_a_run", lambda *_: 20.0)
    names = ("environment", "numbers", "training", "optimizer", "plan")
    arguments = ["--device", "cuda", "--size", "tiny", "--minutes", "5", "--out", str(path)]
    assert script.main([*arguments, "--only", *names, "study"]) == 1
    sections = {s["name"]: s for s in json.loads(path.read_text(encoding="utf-8"))["sections"]}
    assert not [failure for section in sections.values() for failure in section["failures"]]
    assert all(sections[name]["status"] == "measured" for name in names)
    facts = {row["what"]: row["value"] for row in sections["environment"]["rows"]}
    assert facts["data sheet"] == "h200" and facts["memory"].startswith("141.0 GB")
    for row in sections["training"]["rows"]:
        assert row["peak_memory"] == 10**9 and row["of_data_sheet"] > 0
    for row in sections["plan"]["rows"]:
        assert row["memory_ratio"] == pytest.approx(10**9 / row["planned_memory"])
        assert row["planned_hours"] > 0
    assert "about 20 minutes" in sections["study"]["message"]
    assert gpu["synchronize"] > 10 and gpu["empty_cache"] > len(names)
