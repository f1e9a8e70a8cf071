# SPDX-License-Identifier: Apache-2.0
"""A note, once, where guidance is asked for and acts at no step."""

from dataclasses import replace

import pytest

from pippin.runs import components
from pippin.sampling.config import GuidanceConfig
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw, draw_into

OUTSIDE = (20.0, 30.0)


@pytest.fixture
def notes(monkeypatch):
    lines = []
    monkeypatch.setattr(
        components, "print_above_progress", lambda console, line, label: lines.append(label)
    )
    return lines


def test_unguided_samples_are_named_once(finished_run, notes, tmp_path):
    run = load_run(finished_run)
    guidance = GuidanceConfig(semantic_scale=2.0, log_snr_interval=OUTSIDE)
    config = replace(run.recipe.sampling, guidance=guidance)
    draw_into(run, [0], [0], config, tmp_path / "samples")
    draw(run, [0], [1], config)
    assert notes == ["not guided:"]


def test_guided_samples_and_those_of_a_search_have_no_note(finished_run, notes):
    run = load_run(finished_run)
    draw(run, [0], [0], replace(run.recipe.sampling, guidance=GuidanceConfig(semantic_scale=2.0)))
    evaluation = replace(run.recipe.evaluation, intervals=(OUTSIDE,), scale_samples=8)
    run = replace(run, recipe=replace(run.recipe, evaluation=evaluation))
    guidance = GuidanceConfig(semantic_scale=2.0, log_snr_interval=OUTSIDE)
    draw(run, [0], [0], replace(run.recipe.sampling, guidance=guidance))
    assert notes == []
