# SPDX-License-Identifier: Apache-2.0
"""The best scale is searched on one half and reported on the other."""

from dataclasses import replace

import pytest
import torch

from pippin.config import ConfigError
from pippin.evaluation.features.extraction import build_features
from pippin.evaluation.measure import Jackknife
from pippin.evaluation.metrics.declared.drift import DRIFT
from pippin.evaluation.runs import setting_search as module
from pippin.evaluation.runs.best_scale import best_scale_measures
from pippin.evaluation.runs.evaluate import clean_features, evaluation_prompts
from pippin.evaluation.runs.run_drift import size_curve_probes
from pippin.evaluation.runs.setting_search import SEARCH_SEEDS
from pippin.sampling.config import GuidanceConfig, SamplingConfig
from pippin.sampling.load import load_run
from pippin.studies.execution import result_row
from pippin.studies.shipped.demo import demo_study
from pippin.studies.shipped.table import get_study


def loaded(folder, **settings):
    run = load_run(folder)
    config = replace(run.recipe.evaluation, **settings)
    return replace(run, recipe=replace(run.recipe, evaluation=config))


@pytest.fixture(scope="module")
def searched(finished_run):
    run = loaded(finished_run, scales=(1.0, 3.0), scale_samples=8)
    sampling = replace(run.recipe.sampling, batch_size=5)
    run = replace(run, recipe=replace(run.recipe, sampling=sampling))
    config = run.recipe.evaluation
    extractor = build_features(config)
    reference = clean_features(run.components.data, config, "train", run.components.device)
    asked, real = [], module.draw

    def draw(run, prompts, seeds, sampling):
        scale = sampling.guidance.semantic_scale
        if asked and asked[-1][1] == scale and asked[-1][0][-1] + 1 == seeds[0]:
            asked[-1][0].extend(seeds)  # the next batch of the same
        else:
            asked.append((list(seeds), scale))
        return real(run, prompts, seeds, sampling)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "draw", draw)
        prompts = evaluation_prompts(run, config.num_samples)
        measures = best_scale_measures(run, prompts, extractor, reference)
    return {one.name: one for one in measures}, asked


def test_the_search_has_seeds_and_a_reference_of_its_own(searched):
    found, asked = searched
    best = found["best semantic scale"].value
    search, report = list(range(SEARCH_SEEDS, SEARCH_SEEDS + 8)), list(range(12))
    reported = [(report, best)] if best == 1 else [(report, best), (report, 1.0)]
    assert asked == [(search, 1.0), (search, 3.0), *reported]
    hashes = {name: one.protocol["reference_hash"] for name, one in found.items()}
    by_search = {hashes[f"search KID-efflite0 at scale {scale}"] for scale in (1, 3)}
    reported = {hashes["KID-efflite0 at best scale"], hashes["coverage at scale 1"]}
    assert len(by_search) == len(reported) == 1 and by_search != reported


def test_the_best_is_the_smallest_of_the_search(searched):
    found, _ = searched
    kids = {scale: found[f"search KID-efflite0 at scale {scale:g}"].value for scale in (1.0, 3.0)}
    assert found["best semantic scale"].value == min(kids, key=kids.get)
    at_one = found["KID-efflite0 at scale 1"]
    assert at_one.protocol["sampling.guidance.semantic_scale"] == 1.0
    assert at_one.protocol["sampling.evaluations_per_image"] == 3
    assert at_one.protocol["scales"] == [1.0, 3.0]


def test_runs_that_chose_other_scales_can_still_be_compared(searched, recipe):
    found, _ = searched
    study = demo_study(recipe, seeds=(0,), primary="KID-efflite0 at best scale", companions=())
    one = found["KID-efflite0 at best scale"]
    chosen = {"chosen.sampling.guidance.semantic_scale": 2.5}
    other = replace(one, protocol=one.protocol | chosen)
    rows = [result_row(study, "entangled", recipe, measure) for measure in (one, other)]
    assert rows[0].comparable == rows[1].comparable
    assert rows[0].fingerprint != rows[1].fingerprint
    assert "sampling.guidance.semantic_scale" not in one.protocol
    assert "sampling.guidance.semantic_scale" not in found["best semantic scale"].protocol


def test_at_scale_one_there_is_nothing_to_be_negative_about():
    config = SamplingConfig(
        guidance=GuidanceConfig(semantic_scale=3.0), negative_prompt="a blurry image"
    )
    assert config.at_scale(1.0).negative_prompt is None
    assert config.at_scale(2.0).negative_prompt == "a blurry image"


def test_points_of_the_size_curve(finished_run):
    probes = size_curve_probes(loaded(finished_run, size_curve=(12, 24)))
    assert [(probe.small, probe.large) for probe in probes] == [(12, 256), (24, 256)]
    assert [str(DRIFT(control=probe.name, position=probe.position)) for probe in probes] == [
        "drift original_size at 12",
        "drift original_size at 24",
    ]
    with pytest.raises(ConfigError, match=r"size_curve must lie below 256.*got \(12, 256\)"):
        size_curve_probes(loaded(finished_run, size_curve=(12, 256)))


def test_the_fitted_scale_is_compared_between_resolutions(finished_run, monkeypatch):
    scales = (1.0, 1.5, 2.0, 3.0, 4.0)
    run = loaded(finished_run, scales=scales, scale_samples=4)
    distances = iter(scales)

    def parabola(images, reference):
        value = (next(distances) - 2.3) ** 2
        return Jackknife(value=value, leave_one_out=torch.full((4,), value, dtype=torch.float64))

    monkeypatch.setattr(module, "kernel_jackknife", parabola)
    config = run.recipe.evaluation
    reference = clean_features(run.components.data, config, "train", run.components.device)
    prompts = evaluation_prompts(run, config.num_samples)
    extractor = build_features(config)
    found = {one.name: one for one in best_scale_measures(run, prompts, extractor, reference)}
    fitted, per_side = found["fitted semantic scale"], found["fitted guidance per 64 px"]
    assert fitted.value == pytest.approx(2.3) and fitted.low == pytest.approx(2.3)
    assert per_side.value == pytest.approx(1.3 * 64 / run.recipe.data.resolution)
    assert "reference_hash" not in fitted.protocol and fitted.protocol["scales"] == list(scales)
    study = get_study("guidance-law", scale="cpu")
    rows = [
        result_row(study, arm, recipe, replace(per_side, protocol=per_side.protocol | arm_only))
        for (arm, recipe), arm_only in zip(
            study.arms().items(), ({"model.recipe": "a"}, {"model.recipe": "b"}), strict=True
        )
    ]
    assert rows[0].comparable == rows[1].comparable


def test_few_scales_are_not_fitted(searched):
    found, _ = searched
    assert not any(name.startswith("fitted") for name in found)
