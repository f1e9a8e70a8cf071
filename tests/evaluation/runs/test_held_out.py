# SPDX-License-Identifier: Apache-2.0
"""Measures of denoising held-out images of a run."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from pippin.data.moments import EncodedViews
from pippin.evaluation.runs import held_out
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.evaluation.runs.held_out import HeldOut
from pippin.sampling.load import load_run

LOG_SNRS = (-2.0, 0.0, 3.0)


def test_a_run_is_profiled_in_every_field_that_it_reads(finished_run, tmp_path):
    run = load_run(finished_run)
    config = replace(
        run.recipe.evaluation, parts=("control-profile",), profile_log_snrs=LOG_SNRS, scales=()
    )
    run = replace(run, recipe=replace(run.recipe, evaluation=config))
    run.components.recipe = run.recipe
    names = [one.name for one in evaluate_run(run, tmp_path)]
    for field in run.read_names:
        wanted = [f"control profile {field} at log-SNR {one:g}" for one in LOG_SNRS]
        assert set(wanted) <= set(names)


def _held_out(run, **settings):
    evaluation = replace(run.recipe.evaluation, profile_log_snrs=LOG_SNRS, **settings)
    run.components.recipe = replace(run.recipe, evaluation=evaluation)
    return HeldOut(run.components)


def test_no_more_images_are_in_memory_than_are_encoded_at_once(finished_run, monkeypatch):
    run, fetched = load_run(finished_run), []
    whole = _held_out(run)

    class Recorder(EncodedViews):
        def fetch(self, indices, views):
            fetched.append(len(indices))
            return super().fetch(indices, views)

    monkeypatch.setattr(held_out, "EncodedViews", partial(Recorder, encode_batch=7))
    parts = _held_out(run)
    assert fetched == [7, 7, 7, 3]
    assert torch.equal(parts.latents, whole.latents)
    assert torch.equal(parts.batch.label, whole.batch.label)
    assert all(
        torch.equal(parts.batch.control[name], whole.batch.control[name])
        for name in whole.batch.control
    )


def test_a_large_set_is_measured_on_a_fixed_subset_that_its_protocol_names(finished_run):
    run = load_run(finished_run)
    whole, few = _held_out(run), _held_out(run, held_out_images=10)
    chosen = few.images.tolist()
    assert len(chosen) == 10 and chosen == sorted(set(chosen)) != list(range(10))
    assert torch.equal(few.latents, whole.latents[few.images])
    field = run.read_names[0]
    for measures in (few.losses(run.model), few.control_profile(run.model, [field])):
        assert all(measure.protocol["held_out_images"] == 10 for measure in measures)
    assert few.losses(run.model)[0].n == 10
    for measures in (whole.losses(run.model), whole.control_profile(run.model, [field])):
        assert not any("held_out_images" in measure.protocol for measure in measures)


def test_captions_of_a_subset_are_those_of_its_images(finished_run):
    run, asked = load_run(finished_run), []

    class Captions:
        def measured(self, rows):
            asked.append(rows.tolist())
            raise InterruptedError

    few = _held_out(run, held_out_images=3)
    few.components = type(
        "Components", (), {"recipe": run.recipe, "held_out_captions": Captions()}
    )()
    with pytest.raises(InterruptedError):
        few._predict_for(run.model, few.batch.control, torch.tensor([2, 0]))
    assert asked == [[few.images[2].item(), few.images[0].item()]]
