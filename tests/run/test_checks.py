# SPDX-License-Identifier: Apache-2.0
"""Recipes that could not be measured to their end are refused before they are trained."""

from dataclasses import replace

import pytest

from pippin.conditioning.config import DropConfig
from pippin.config import ConfigError, replace_at
from pippin.data.config import LookLaw
from pippin.run.checks import check_recipe
from pippin.run.drift import probes
from pippin.run.load import load_run

NEVER = DropConfig(keep=1.0, control=0.0, semantic=0.0, both=0.0)


@pytest.fixture
def plain(recipe):
    return replace_at(recipe, "sampling.guidance.semantic_scale", 1.0)


def test_a_recipe_that_fits_passes(recipe):
    asked = {"scales": (1.0, 2.0), "scale_samples": 8, "control_scales": (0.5, 2.0)}
    asked["size_curve"] = (12, 24)
    check_recipe(replace(recipe, evaluation=replace(recipe.evaluation, **asked)))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("scales", (1.0, 3.0), r"evaluation\.scales \(1\.0, 3\.0\): .*conditioning\.drop\.both"),
        ("control_scales", (2.0,), r"evaluation\.control_scales \(2\.0,\): .*drop\.control"),
    ],
)
def test_scales_that_the_model_cannot_be_guided_by_are_named_as_given(
    plain, setting, value, message
):
    never = replace_at(plain, "conditioning.drop", NEVER)
    never = replace_at(never, "evaluation.scale_samples", 8)
    check_recipe(never)
    with pytest.raises(ConfigError, match=message):
        check_recipe(replace_at(never, f"evaluation.{setting}", value))


def test_sizes_that_the_images_cannot_show(recipe):
    with pytest.raises(ConfigError, match=r"below data\.resolution 32.*got \(12, 32\)"):
        check_recipe(replace_at(recipe, "evaluation.size_curve", (12, 32)))


@pytest.mark.parametrize("field", ["jpeg_quality", "colour_jitter"])
def test_a_look_that_never_varies_is_no_control(recipe, field):
    reading = replace_at(recipe, "conditioning.control.low", ("original_size", field))
    with pytest.raises(ConfigError, match=rf"reads {field}, .* is 0: set it above 0"):
        check_recipe(reading)
    law = LookLaw(colour_jitter=0.5, jpeg_share=0.5)
    check_recipe(replace_at(reading, "data.look", law))


def test_only_controls_that_a_model_reads_are_probed(finished_run):
    run = load_run(finished_run)
    assert set(probes(run)) == {"original_size", "crop_corner", "flip"}
    control = replace(run.recipe.conditioning.control, high=("crop_corner",), low=())
    recipe = replace_at(run.recipe, "conditioning.control", control)
    crop = replace(run, recipe=recipe)
    assert set(crop.control_names) == {"crop_corner", "original_size"}
    assert set(probes(crop)) == {"crop_corner"}  # the size is only what corners are shares of
