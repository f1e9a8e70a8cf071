# SPDX-License-Identifier: Apache-2.0
"""Recipes that could not be measured to their end are refused before they are trained."""

from dataclasses import replace
from pathlib import Path

import pytest

from pippin.conditioning.config import DropConfig
from pippin.config import ConfigError, replace_at
from pippin.data.config import AugmentationConfig, OriginalSizeConfig
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.unet.config import unet
from pippin.encoders.config import AutoencoderConfig
from pippin.evaluation.runs.run_drift import probes
from pippin.recipes.checks import check_recipe
from pippin.sampling.load import load_run
from pippin.training.train import train

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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"data.resolution": 36},
            r"multiple of 8, .*factor 4 .* 2 that denoiser mmdit.* 32 or 40",
        ),
        ({"data.resolution": 7}, "got 7: take 8"),
        ({"denoiser.table_side": 3}, r"32 has 4 patches a side, and denoiser\.table_side is 3"),
        ({"denoiser": mdtv2("tiny", (8, 8))}, r"has 4 x 4 patches, .*denoiser\.grid to 4 4"),
        ({"denoiser": unet("tiny"), "data.resolution": 36}, "the 2 that denoiser unet"),
    ],
)
def test_a_resolution_that_does_not_fit_is_refused(recipe, settings, message):
    for path, value in settings.items():
        recipe = replace_at(recipe, path, value)
    with pytest.raises(ConfigError, match=message):
        check_recipe(recipe)


def test_an_unknown_autoencoder_is_asked_before_anything_is_cached(recipe, monkeypatch, tmp_path):
    """The name alone does not say its factor: the weights do."""
    folder = recipe.autoencoder.source
    monkeypatch.setattr(
        "pippin.encoders.autoencoder.find_autoencoder", lambda config: Path(folder)
    )
    monkeypatch.setattr(
        "pippin.runs.components.build_cache", lambda *_, **__: pytest.fail("cached")
    )
    wrong = replace_at(recipe, "data.resolution", 36)
    wrong = replace_at(wrong, "autoencoder", AutoencoderConfig(source="someone/autoencoder"))
    with pytest.raises(ConfigError, match=r"data\.resolution must be a multiple of 8.*got 36"):
        train(wrong, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("field", ["jpeg_quality", "colour_jitter"])
def test_a_look_that_never_varies_is_no_control(recipe, field):
    reading = replace_at(recipe, "conditioning.control.low", ("original_size", field))
    with pytest.raises(ConfigError, match=rf"reads {field}, .* is 0: set it above 0"):
        check_recipe(reading)
    law = AugmentationConfig(colour_jitter=0.5, jpeg_share=0.5)
    check_recipe(replace_at(reading, "data.look", law))


@pytest.mark.parametrize("law", [{"smallest": 2, "largest": 12}, {"largest": 8193}])
def test_sizes_that_the_control_cannot_read_are_refused_before_anything_is_cached(recipe, law):
    wrong = recipe
    for name, side in law.items():
        wrong = replace_at(wrong, f"data.size_law.{name}", side)
    with pytest.raises(ConfigError, match=r"reads original_size, from 8 to 8192 .*data\.size_law"):
        check_recipe(wrong)
    unread = replace_at(wrong, "conditioning.control.low", ())
    check_recipe(replace_at(unread, "conditioning.control.high", ("crop_corner",)))
    fits = replace_at(wrong, "data.size_law", OriginalSizeConfig(smallest=8, largest=8192))
    check_recipe(fits)


@pytest.mark.parametrize("size", [(7, 64), (64, 8193)])
def test_a_requested_size_that_the_control_cannot_read_is_refused(recipe, finished_run, size):
    asked = replace_at(recipe, "sampling.control.original_size", size)
    message = r"sampling\.control\.original_size must lie between 8 and 8192 .*got \(\d"
    with pytest.raises(ConfigError, match=message):
        check_recipe(asked)
    with pytest.raises(ConfigError, match=message):
        load_run(finished_run).sampler(asked.sampling)
    unread = replace_at(asked, "conditioning.control.low", ())
    check_recipe(replace_at(unread, "conditioning.control.high", ("crop_corner",)))


def test_only_controls_that_a_model_reads_are_probed(finished_run):
    run = load_run(finished_run)
    assert set(probes(run)) == {"original_size", "crop_corner", "flip"}
    control = replace(run.recipe.conditioning.control, high=("crop_corner",), low=())
    recipe = replace_at(run.recipe, "conditioning.control", control)
    crop = replace(run, recipe=recipe)
    assert set(crop.control_names) == {"crop_corner", "original_size"}
    assert set(probes(crop)) == {"crop_corner"}  # the size is only what corners are shares of
