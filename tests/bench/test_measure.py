# SPDX-License-Identifier: Apache-2.0
"""The record of a measurement: its schema, and the consistency of its figures."""

import json
import time
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from pippin.bench.config import BenchConfig
from pippin.bench.measure import PARTS, SyntheticMoments, bench
from pippin.bench.record import BenchRecord
from pippin.bench.timer import Timer, matmul_peak, peak_memory, reset_peak_memory
from pippin.config import ConfigError
from pippin.data.moments import MomentSource
from pippin.nn.blocks import AdaLNBlock


def test_a_record_survives_json_and_an_unknown_entry_is_refused(record, tmp_path):
    path = tmp_path / "bench.json"
    record.save(path)
    assert BenchRecord.load(path) == record
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["content_sha256"]
    values["modes"][0]["speed"] = 1.0
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ConfigError, match="speed"):
        BenchRecord.load(path)


def test_both_precisions_are_measured_in_every_window(record):
    assert [mode.name for mode in record.modes] == ["fp32 eager", "bf16 eager"]
    for mode in record.modes:
        assert mode.images_per_second.windows == 3
        assert mode.images_per_second.low <= mode.images_per_second.median
        assert mode.images_per_second.median == pytest.approx(16 / mode.step_seconds.median)
        assert list(mode.parts) == list(PARTS)
        assert mode.peak_memory > 2**26  # torch alone is larger


def test_parts_add_up_to_the_step(record):
    for mode in record.modes:
        best = sum(part.low for part in mode.parts.values())
        # on a CPU the marks are free; the rest is noise of a busy machine
        assert best < 1.3 * mode.step_seconds.high
        assert sum(part.high for part in mode.parts.values()) > 0.7 * mode.step_seconds.low
        assert mode.parts["backward"].median > mode.parts["draw"].median


def test_peak_share_is_flops_over_time_over_peak(record):
    for mode in record.modes:
        work = record.step_flops * 16
        fastest = work / mode.step_seconds.low / mode.matmul_peak.low
        slowest = work / mode.step_seconds.high / mode.matmul_peak.high
        assert slowest <= mode.peak_share.median <= fastest


def test_the_loader_of_the_recipe_is_timed(small_recipe, record):
    assert record.loader.median > record.modes[0].images_per_second.median
    assert record.settings["bench.data"] == "made-up"
    assert record.settings["train.batch_size"] == small_recipe.train.batch_size
    assert "train.precision" not in record.settings


def test_compiled_blocks_are_a_mode_of_their_own(small_recipe, monkeypatch):
    compiled = []
    monkeypatch.setattr(AdaLNBlock, "compile", lambda self, **_: compiled.append(self))
    config = BenchConfig(data="made-up", windows=1, steps=1, warmup=1, matmul_side=8, compile=True)
    only = replace(config, precisions=("fp32",))
    record = bench(small_recipe, "small", only, Console(quiet=True))
    assert [mode.name for mode in record.modes] == ["fp32 eager", "fp32 compiled"]
    assert len(compiled) == small_recipe.denoiser.depth


def test_a_timer_adds_up_time_by_name(monkeypatch):
    now = [5.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    timer = Timer(torch.device("cpu"))
    for pause, name in ((2.0, "a"), (1.0, "b"), (2.0, "a")):
        with timer(name):
            now[0] += pause
    assert timer.seconds == {"a": 4.0, "b": 1.0}


def test_peak_memory_sees_what_was_allocated():
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory(cpu)
    block = torch.ones(2**26)  # 256 MiB, touched
    assert peak_memory(cpu) - before > 0.9 * block.nbytes


def test_matmul_peak_is_a_rate():
    small, large = (matmul_peak(torch.device("cpu"), "fp32", side) for side in (8, 512))
    assert 0 < small < large  # calls of the small one are mostly overhead


def test_synthetic_moments_replace_a_cache():
    source = SyntheticMoments((4, 8, 8), num_classes=3, num_images=5)
    assert isinstance(source, MomentSource)
    batch = source.fetch(torch.tensor([4, 0]), torch.tensor([0, 0]))
    assert batch.moments.mean.shape == (2, 4, 8, 8)
    assert batch.label.tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"range\(5\)"):
        source.fetch(torch.tensor([5]), torch.tensor([0]))


@pytest.mark.parametrize(
    "settings",
    [{"windows": 0}, {"precisions": ()}, {"threads": -1}, {"precisions": ("fp32",) * 2}],
)
def test_measurements_of_nothing_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        BenchConfig(**settings)
