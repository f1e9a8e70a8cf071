# SPDX-License-Identifier: Apache-2.0
"""The best scale is searched on one half and reported on the other."""

from dataclasses import replace

import pytest

from pippin.config import ConfigError
from pippin.evaluation.features import build_features
from pippin.run import best_scale as module
from pippin.run.best_scale import SEARCH_SEEDS, best_scale_measures
from pippin.run.drift import curve
from pippin.run.evaluate import clean_features, evaluation_prompts
from pippin.run.load import load_run


def loaded(folder, **settings):
    run = load_run(folder)
    config = replace(run.recipe.evaluation, **settings)
    return replace(run, recipe=replace(run.recipe, evaluation=config))


@pytest.fixture(scope="module")
def searched(finished_run):
    run = loaded(finished_run, scales=(1.0, 3.0), scale_samples=8)
    config = run.recipe.evaluation
    extractor = build_features(config)
    reference = clean_features(run.parts.data, config, "train", run.parts.device)
    asked, real = [], module.draw

    def draw(run, prompts, seeds, sampling):
        asked.append((list(seeds), sampling.guidance.semantic_scale))
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
    assert asked == [(search, 1.0), (search, 3.0), (report, best), (report, 1.0)]
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


def test_points_of_the_size_curve(finished_run):
    probes = curve(loaded(finished_run, size_curve=(12, 24)))
    assert [(probe.name, probe.small, probe.large) for probe in probes] == [
        ("original_size at 12", 12, 256),
        ("original_size at 24", 24, 256),
    ]
    with pytest.raises(ConfigError, match=r"size_curve must lie below 32.*got \(12, 32\)"):
        curve(loaded(finished_run, size_curve=(12, 32)))
