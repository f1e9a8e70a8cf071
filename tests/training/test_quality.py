# SPDX-License-Identifier: Apache-2.0
"""Sample quality while training: what it measures, and that it changes no weight."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from pippin.config import ConfigError, fingerprint
from pippin.evaluation.metrics.frechet import FittedGaussian, GaussianStatistics, frechet_distance
from pippin.evaluation.metrics.frechet_noise import frechet_jackknife
from pippin.recipes.checks import check_recipe
from pippin.reports.figures.quality_curves import quality_curves
from pippin.reports.report_data import open_source
from pippin.runs.components import Components
from pippin.runs.storage.retention import Retention
from pippin.system.signals import TrainingStoppedError
from pippin.training.quality import QualityMeter
from pippin.training.train import train

QUIET = Console(quiet=True)


def gaussians(seed, count, dim=24):
    noise = np.random.default_rng(seed).normal(size=(count, dim))
    return torch.from_numpy(noise * np.linspace(0.5, 2, dim) + 0.3 * seed)


@pytest.mark.parametrize("count", [3, 20, 60])
def test_the_value_is_the_frechet_distance(count):
    """Below, at and above the number of features."""
    samples, reference = gaussians(1, count), GaussianStatistics.from_features(gaussians(0, 500))
    direct = frechet_distance(GaussianStatistics.from_features(samples), reference)
    assert frechet_jackknife(samples, reference).value == pytest.approx(direct, rel=1e-7)


def test_each_value_leaves_one_group_out():
    samples, reference = gaussians(1, 40), GaussianStatistics.from_features(gaussians(0, 500))
    jackknife = frechet_jackknife(samples, reference, groups=8)
    kept = samples[torch.arange(40) % 8 != 3]
    direct = frechet_distance(GaussianStatistics.from_features(kept), reference)
    assert float(jackknife.leave_one_out[3]) == pytest.approx(direct, rel=1e-7)


def test_the_interval_has_the_spread_of_other_samples():
    """Over 60 draws of one distribution, the mean half width is within a third of 1.96 standard
    deviations of the value."""
    reference = FittedGaussian(
        mean=torch.zeros(24, dtype=torch.float64), covariance=torch.eye(24, dtype=torch.float64)
    )
    draws = [frechet_jackknife(gaussians(seed, 60) - 0.3 * seed, reference) for seed in range(60)]
    widths = [(high - low) / 2 for low, high in (draw.interval() for draw in draws)]
    spread = 1.96 * np.std([draw.value for draw in draws], ddof=1)
    assert 0.67 < np.mean(widths) / spread < 1.5


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def quality_of(folder):
    """Values by images, without the time and the checksum that covers it."""
    return {
        line["images"]: {n: v for n, v in line.items() if n not in ("wall_time", "content_sha256")}
        for line in log_of(folder)
        if "kid" in line
    }


@pytest.fixture(scope="module")
def measured(recipe, tmp_path_factory):
    """The recipe with quality at images 32 and 64, and its finished run."""
    settings = {"quality_every": 32, "quality_samples": 6, "preview_every": 0}
    recipe = replace(recipe, train=replace(recipe.train, **settings))
    folder = tmp_path_factory.mktemp("measured") / "run"
    train(recipe, folder, console=QUIET)
    return recipe, folder


def test_quality_changes_no_weight_and_no_fingerprint(measured, recipe, finished_run):
    with_quality, folder = measured
    assert fingerprint(with_quality) == fingerprint(recipe)
    for part in ("model", "ema", "optimizer"):
        plain, own = (
            load_file(run / "checkpoints/64" / f"{part}.safetensors")
            for run in (finished_run, folder)
        )
        assert all(torch.equal(plain[name], own[name]) for name in plain)


def test_values_lie_in_their_intervals_beside_the_held_out_loss(measured):
    _, folder = measured
    lines = quality_of(folder)
    assert list(lines) == [32, 64]
    for line in lines.values():
        for name in ("kid", "fd"):
            assert line[f"{name}_low"] <= line[name] <= line[f"{name}_high"]
            assert math.isfinite(line[name])
        assert "alignment" not in line  # a model of classes
    assert {line["images"] for line in log_of(folder) if "held_out_loss" in line} == {32, 64}


def test_a_run_resumed_before_a_measure_logs_the_same_values(measured, tmp_path, monkeypatch):
    recipe, whole = measured

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, TrainingStoppedError)):
        patch.setattr("pippin.training.quality.QualityMeter.measure", stop)
        train(recipe, tmp_path / "run", console=QUIET)  # ends in the measure at 32 images
    assert quality_of(tmp_path / "run") == {}
    train(recipe, tmp_path / "run", resume=True, console=QUIET)
    assert quality_of(tmp_path / "run") == quality_of(whole)


def test_the_page_has_a_curve_with_a_band_for_each_measure(measured):
    kid, fd = quality_curves(open_source(measured[1]))
    assert (kid.title, fd.title) == ("KID while training", "FD while training")
    assert "not over training seeds" in kid.caption
    assert "fill-opacity" in kid.svg or "opacity: 0.15" in kid.svg
    assert f"{quality_of(measured[1])[64]['kid']:.3g}" in kid.alt


def test_the_best_checkpoint_is_the_most_aligned_or_nearest_one(tmp_path):
    lines = [{"images": 10, "kid": 2.0, "alignment": 0.5}, {"images": 20, "kid": 3.0}]
    lines += [{"images": 20, "alignment": 0.7}, {"images": 30, "kid": None, "alignment": 0.6}]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, best in (("kid", 10), ("alignment", 20)):
        assert Retention(newest=1, best=name, log=log).kept([10, 20, 30]) == {best, 30}


@pytest.mark.parametrize(
    "files", [{"features": "inception", "inception": "nowhere.pth"}, {"reference": "nowhere.npz"}]
)
def test_missing_files_are_refused_before_any_work(recipe, tmp_path, files):
    missing = replace(
        recipe,
        train=replace(recipe.train, quality_every=32),
        evaluation=replace(recipe.evaluation, **files),
    )
    with pytest.raises((ValueError, OSError), match="nowhere"):
        train(missing, tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()


def test_files_are_read_from_their_recorded_paths(recipe, tmp_path):
    """A run that resumes in another working directory measures with the same files."""
    at = replace(recipe.evaluation, reference=str(tmp_path / "statistics.npz"))
    given = replace(recipe, evaluation=replace(at, reference="statistics.npz"))
    components = Components(given, QUIET, located=replace(given, evaluation=at))
    with pytest.raises(ValueError, match=str(tmp_path)):
        _ = QualityMeter(components).gaussian


def test_alignment_of_a_model_of_classes_is_refused(recipe):
    settings = {"quality_every": 64, "keep_best": "alignment"}
    wrong = replace(recipe, train=replace(recipe.train, **settings))
    with pytest.raises(ConfigError, match="this model reads none: choose held_out_loss"):
        check_recipe(wrong)
