# SPDX-License-Identifier: Apache-2.0
"""Intervals and autoguidance scales are searched on one half and reported on the other."""

from dataclasses import replace

import pytest
import torch

from pippin.config import ConfigError, fingerprint
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.features.extraction import build_features
from pippin.evaluation.measure import Jackknife
from pippin.evaluation.metric_registry import find_metric
from pippin.evaluation.metrics.declared.best_setting import SEARCH_AT_INTERVAL
from pippin.evaluation.runs import setting_search as module
from pippin.evaluation.runs.best_interval import best_interval_measures
from pippin.evaluation.runs.best_scale import best_scale_measures
from pippin.evaluation.runs.evaluate import clean_features, evaluation_prompts
from pippin.evaluation.runs.sampling_cost import sampling_cost
from pippin.evaluation.runs.setting_search import SEARCH_SEEDS
from pippin.recipes.checks import check_recipe
from pippin.rng import uniform
from pippin.sampling.config import GuidanceConfig
from pippin.sampling.load import load_run

INTERVALS = ((-3.0, 3.0), (-50.0, 1.0))
GUIDED = {"guidance": GuidanceConfig(guide_scale=2.0), "guide_checkpoint": 32}


@pytest.fixture(scope="module")
def trained(finished_run):
    """A run, loaded for this module alone."""
    return load_run(finished_run)


def searching(run, sampling=None, **settings):
    """The run with a search of six images."""
    settings = {"scale_samples": 6, "num_samples": 8, "kid_subset_size": 4, **settings}
    evaluation = replace(run.recipe.evaluation, **settings)
    sampling = replace(run.recipe.sampling, steps=2, **(sampling or {}))
    return replace(run, recipe=replace(run.recipe, evaluation=evaluation, sampling=sampling))


def measured(run, measures, monkeypatch, distance):
    """(name -> measure, first seed and guidance of each sample); KID is a function of guidance."""
    config, drawn = run.recipe.evaluation, []

    def draw(run, prompts, seeds, sampling):
        drawn.append((seeds[0], sampling.guidance))
        noise = [256 * uniform((3, 32, 32), "noise", seed) for seed in seeds]
        return torch.stack(noise).byte()

    def kid(images, reference):
        value = distance(drawn[-1][1])
        return Jackknife(value=value, leave_one_out=torch.full((6,), value, dtype=torch.float64))

    monkeypatch.setattr(module, "draw", draw)
    monkeypatch.setattr(module, "kernel_jackknife", kid)
    reference = clean_features(run.components.data, config, "train", run.components.device)
    prompts = evaluation_prompts(run, config.num_samples)
    found = measures(run, prompts, build_features(config), reference)
    return {one.name: one for one in found}, drawn


def test_the_interval_with_the_smallest_kid_is_reported(trained, monkeypatch):
    def distance(guidance):
        return abs(guidance.semantic_scale - 3) + abs(guidance.log_snr_interval[1] - 1)

    run = searching(trained, intervals=INTERVALS, scales=(1.0, 2.0, 3.0))
    found, drawn = measured(run, best_interval_measures, monkeypatch, distance)
    chosen = [found[f"best interval {what}"].value for what in ("low", "high", "scale")]
    assert chosen == [-50.0, 1.0, 3.0]
    searched = [(one.log_snr_interval, one.semantic_scale) for _, one in drawn[:-1]]
    assert searched == [(pair, scale) for pair in INTERVALS for scale in (2.0, 3.0)]
    assert [seed for seed, _ in drawn] == [SEARCH_SEEDS] * 4 + [0]
    assert drawn[-1][1] == drawn[-2][1]
    search = found["search KID-efflite0 at interval -3 to 3 scale 2"]
    at_best = found["KID-efflite0 at best interval"]
    assert search.protocol["reference_hash"] != at_best.protocol["reference_hash"]
    assert search.protocol["sampling.guidance.log_snr_interval"] == [-3.0, 3.0]
    assert at_best.protocol["chosen.sampling.guidance.log_snr_interval"] == [-50.0, 1.0]
    assert at_best.protocol["intervals"] == [[-3.0, 3.0], [-50.0, 1.0]]
    names = ("log_snr_interval", "semantic_scale")
    for one in (at_best, found["best interval scale"]):
        assert not any(f"sampling.guidance.{name}" in one.protocol for name in names)


def test_scales_of_autoguidance_are_searched_where_a_guide_is_given(trained, monkeypatch):
    run = searching(trained, GUIDED, scales=(1.0, 1.5, 2.0, 2.5, 3.0))
    found, drawn = measured(
        run, best_scale_measures, monkeypatch, lambda one: (one.guide_scale - 2.2) ** 2
    )
    assert found["best guide scale"].value == 2.0
    assert found["fitted guide scale"].value == pytest.approx(2.2)
    assert {one.semantic_scale for _, one in drawn} == {1.0}
    assert [one.guide_scale for _, one in drawn] == [1.0, 1.5, 2.0, 2.5, 3.0, 2.0, 1.0]
    best, one = found["KID-efflite0 at best scale"], found["KID-efflite0 at scale 1"]
    assert best.protocol["chosen.guide.images_seen"] == 32
    assert best.protocol["chosen.sampling.evaluations_per_image"] == 4
    assert one.protocol["sampling.evaluations_per_image"] == 2
    assert not any(name.startswith("guide.") for name in best.protocol)


def test_the_cost_of_samples_counts_both_networks(trained):
    """Two steps: two evaluations of the model and two of an equal one, or two terms of one."""
    (macs,) = {
        sampling_cost(run, run.recipe.sampling).value / evaluations
        for run, evaluations in (
            (searching(trained, {"guidance": GuidanceConfig()}), 2),
            (searching(trained), 4),
            (searching(trained, GUIDED), 4),
        )
    }
    guided = searching(trained, GUIDED)
    small = replace(guided.recipe.denoiser, depth=1)
    guide = guided.guide(guided.recipe.sampling)
    smaller = replace(guide, recipe=replace(guide.recipe, denoiser=small))
    choice = guided.recipe.sampling.guide_choice
    other = replace(guided, _guides={choice: smaller})
    cost = sampling_cost(other, guided.recipe.sampling)
    assert 2 * macs < cost.value < 4 * macs
    assert cost.protocol["sampling.guide_evaluations_per_image"] == 2


@pytest.mark.parametrize(
    "intervals",
    [
        ((1.0, 1.0),),
        ((2.0, -2.0),),
        ((-1.0, 1.0), (-1.0, 1.0)),
        ((0.0, float("nan")),),
        ((float("-inf"), 3.0),),
    ],
    ids=str,
)
def test_intervals_that_are_none_are_refused(intervals):
    with pytest.raises(ConfigError, match=r"evaluation\.intervals must be different pairs"):
        EvaluationConfig(intervals=intervals)


def test_a_search_without_guidance_is_refused(recipe):
    evaluation = replace(recipe.evaluation, intervals=INTERVALS, scales=(1.0,), scale_samples=6)
    with pytest.raises(ConfigError, match="all scales are 1, which is off"):
        check_recipe(replace(recipe, evaluation=evaluation))


def test_without_intervals_the_fingerprint_is_as_before():
    config = EvaluationConfig()
    assert fingerprint(config) == fingerprint(replace(config, intervals=()))
    assert fingerprint(config) != fingerprint(replace(config, intervals=INTERVALS))


def test_names_of_the_search_are_read_back():
    name = "search KID-efflite0 at interval -3.5 to 1e+06 scale 2"
    metric = find_metric(name)
    assert metric.kind is SEARCH_AT_INTERVAL and metric.name == name
