# SPDX-License-Identifier: Apache-2.0
"""The best request is searched on one half and reported on the other, with sharpness beside."""

from copy import copy
from dataclasses import replace

import pytest

from pippin.config import ConfigError, fingerprint
from pippin.control import LARGEST_SIDE
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.features.extraction import build_features
from pippin.evaluation.metric_registry import find_metric
from pippin.evaluation.metrics.declared.sharpness import SHARPNESS
from pippin.evaluation.runs import setting_search
from pippin.evaluation.runs.best_request import (
    Candidate,
    at_request,
    best_request_measures,
    candidates,
    sampling_of,
)
from pippin.evaluation.runs.evaluate import (
    clean_features,
    clean_image_measures,
    evaluate_run,
    evaluation_prompts,
)
from pippin.evaluation.runs.held_out import HeldOut
from pippin.evaluation.runs.protocol import STRIDE, noise_seed, sample_seeds
from pippin.evaluation.runs.run_drift import Pairs
from pippin.evaluation.runs.setting_search import SEARCH_SEEDS
from pippin.sampling.config import ControlRequest
from pippin.sampling.load import LoadedRun, load_run
from pippin.sampling.sample_folder import read_manifest
from pippin.studies.execution import result_row
from pippin.studies.shipped.demo import demo_study
from pippin.studies.study import Study


def with_evaluation(run, seed=None, **settings):
    config = replace(run.recipe.evaluation, **settings)
    recipe = replace(run.recipe, evaluation=config)
    return replace(run, recipe=recipe if seed is None else replace(recipe, seed=seed))


@pytest.fixture(scope="module")
def searched(finished_run):
    run = with_evaluation(load_run(finished_run), requests=(24, 256), scale_samples=8)
    config, asked, real = run.recipe.evaluation, [], setting_search.draw

    def draw(run, prompts, seeds, sampling):
        asked.append((list(seeds), sampling.control.original_size[0]))
        return real(run, prompts, seeds, sampling)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setting_search, "draw", draw)
        reference = clean_features(run.components.data, config, "train", run.components.device)
        prompts = evaluation_prompts(run, config.num_samples)
        measures = best_request_measures(run, prompts, build_features(config), reference)
    return {one.name: one for one in measures}, asked, run


def test_the_search_has_seeds_and_a_reference_of_its_own(searched):
    found, asked, run = searched
    scale = run.recipe.sampling.guidance.semantic_scale
    best = found["best request"].value
    search = list(range(SEARCH_SEEDS, SEARCH_SEEDS + 8))
    assert asked == [(search, 24), (search, 256), (list(range(12)), best)]
    halves = {
        found[name].protocol["reference_hash"]
        for name in (
            f"search FD-efflite0 at request 24 scale {scale:g}",
            "FD-efflite0 at best request",
        )
    }
    assert len(halves) == 2


def test_fd_chooses_and_sharpness_stands_beside(searched):
    found, _, run = searched
    scale = f"scale {run.recipe.sampling.guidance.semantic_scale:g}"
    kinds = ("FD-efflite0", "KID-efflite0", "sharpness")
    for kind in kinds:
        assert {f"search {kind} at request {size} {scale}" for size in (24, 256)} <= set(found)
        assert f"{kind} at best request" in found
    by_size = {s: found[f"search FD-efflite0 at request {s} {scale}"].value for s in (24, 256)}
    assert found["best request"].value == min(by_size, key=by_size.get)
    assert found["best request"].unit == "px" and found["best request scale"].value == float(
        scale.split()[1]
    )
    assert all(
        find_metric(name).description and find_metric(name).group == "samples" for name in found
    )


def test_arms_that_chose_other_requests_can_still_be_compared(searched, recipe):
    found, _, _ = searched
    one = found["FD-efflite0 at best request"]
    chosen = {"chosen.sampling.control.original_size": [48, 48]}
    other = replace(one, protocol=one.protocol | chosen)
    study = demo_study(recipe, seeds=(0,), primary=one.name, companions=())
    rows = [result_row(study, "entangled", recipe, measure) for measure in (one, other)]
    assert rows[0].comparable == rows[1].comparable
    assert rows[0].fingerprint != rows[1].fingerprint
    assert not [name for name in one.protocol if name == "sampling.control.original_size"]


def test_scales_are_searched_together_with_requests(run):
    both = with_evaluation(run, requests=(24, 48), scales=(1.0, 2.0), scale_samples=8)
    assert [one.searched(SHARPNESS()).name for one in candidates(both)] == [
        f"search sharpness at request {size} scale {scale}"
        for size in (24, 48)
        for scale in (1, 2)
    ]


def test_a_model_that_does_not_read_sizes_is_asked_once(run, monkeypatch):
    asked = with_evaluation(run, requests=(24, 48), scale_samples=8)
    monkeypatch.setattr(type(asked), "read_names", property(lambda self: ("flip",)))
    assert [one.request for one in candidates(asked)] == [48]


def test_a_request_is_a_whole_image_of_that_size(run):
    one = Candidate(request=24, scale=1.0)
    cropped = ControlRequest(
        original_size=(256, 256), crop_corner=(100, 9), crop_size=(80, 80), flip=True
    )
    found = at_request(replace(run.recipe.sampling, control=cropped), one).control
    assert found == ControlRequest(original_size=(24, 24), flip=True)
    training = replace(run.recipe.sampling, control=ControlRequest(ask="training"))
    assert at_request(training, one).control == ControlRequest(original_size=(24, 24))


def test_new_settings_leave_older_fingerprints(recipe):
    plain = replace(recipe.evaluation, scale_samples=8)
    assert fingerprint(plain) == fingerprint(replace(plain, requests=(), seed_from_training=False))
    assert fingerprint(plain) != fingerprint(replace(plain, seed_from_training=True))
    assert fingerprint(plain) != fingerprint(replace(plain, requests=(24,)))
    record = plain.to_dict()
    del record["requests"], record["seed_from_training"]
    assert EvaluationConfig.from_dict(record) == plain


@pytest.mark.parametrize("sides", [(0,), (24, 24), (24, LARGEST_SIDE + 1)])
def test_requests_that_cannot_be_asked_for_are_refused(sides):
    with pytest.raises(ConfigError, match=r"evaluation\.requests must be different sides from 8"):
        EvaluationConfig(requests=sides)


def test_seeds_are_shared_by_training_seeds_unless_told(run):
    for seed in (0, 3):
        same = with_evaluation(run, seed=seed).recipe
        assert list(sample_seeds(same, 3)) == [0, 1, 2] and noise_seed(same) == 0
    own = with_evaluation(run, seed=3, seed_from_training=True).recipe
    assert list(sample_seeds(own, 2, SEARCH_SEEDS)) == [
        3 * STRIDE + SEARCH_SEEDS,
        3 * STRIDE + SEARCH_SEEDS + 1,
    ]
    assert noise_seed(own) == 3 * STRIDE


def held_out_loss(run):
    components = copy(run.components)
    components.recipe = run.recipe
    return HeldOut(components).losses(run.model)[0].value


def test_evaluation_noise_follows_the_training_seed(run):
    """Samples, classes, images of pairs and held-out noise: equal at one seed, else not."""
    small = {"drift_pairs": 8, "seed_from_training": True}
    first, again, second = (with_evaluation(run, seed=seed, **small) for seed in (1, 1, 2))
    shared = [with_evaluation(run, seed=seed, drift_pairs=8) for seed in (1, 2)]
    cases = ((False, (first, again)), (True, (first, second)), (False, shared))
    for differ, (one, other) in cases:
        assert (evaluation_prompts(one, 24) != evaluation_prompts(other, 24)) == differ
        assert (Pairs(one).indices != Pairs(other).indices) == differ
        losses = [held_out_loss(each) for each in (one, other)]
        assert (losses[0] != losses[1]) == differ


def test_measures_of_several_training_seeds_can_be_compared(finished_run, tmp_path):
    """A protocol that held the derived seed would leave one training seed in each mean."""
    parts = ("held-out", "quality", "drift", "control-profile")
    found = []
    for seed in (1, 2):
        run = load_run(finished_run)
        run = with_evaluation(run, seed=seed, seed_from_training=True, parts=parts)
        run.components.recipe = run.recipe
        study = Study(name="any", title="", question="", base=run.recipe, axes={}, primary="KID")
        rows = [
            result_row(study, "arm", run.recipe, one)
            for one in evaluate_run(run, tmp_path / str(seed))
        ]
        found.append({(row.metric, row.subject): row.comparable for row in rows})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 20
    assert found[0] == found[1]


def test_a_model_that_does_not_read_the_size_is_asked_for_none(run, monkeypatch):
    """Its samples would otherwise be refused: it is not conditioned on what is asked for."""
    monkeypatch.setattr(LoadedRun, "read_names", ("flip",))
    found = sampling_of(run, Candidate(request=48, scale=3.0))
    assert found.control == run.recipe.sampling.control
    assert found.guidance.semantic_scale == 3.0


def test_an_evaluation_by_training_seed_keeps_its_samples(finished_run, tmp_path):
    run = with_evaluation(load_run(finished_run), seed=2, seed_from_training=True)
    run = with_evaluation(run, parts=("quality",))
    measures = evaluate_run(run, tmp_path)
    manifest = read_manifest(tmp_path / "evaluation" / "samples")
    assert [row["seed"] for row in manifest.images] == [2 * STRIDE + k for k in range(12)]
    assert [one.n for one in measures if one.name == "sharpness"] == [12]


def test_sharpness_of_clean_held_out_images(run):
    (found,) = clean_image_measures(run.components.data, run.recipe.evaluation, (SHARPNESS,))
    assert found.subject == "real" and found.n == len(run.components.held_out_source)
