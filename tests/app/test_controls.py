# SPDX-License-Identifier: Apache-2.0
"""Controls of the page: which a run has, and the request that their values make."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin.app.controls import (
    base_request,
    constant_fields,
    control_request,
    run_controls,
    sample_size,
)
from pippin.config import ConfigError
from pippin.control import ColourJitter
from pippin.data.config import AugmentationConfig
from pippin.recipes.table import get_recipe
from pippin.runs.trained import trained_recipe
from pippin.sampling.config import ControlRequest
from pippin.sampling.load import LoadedRun


def run_of(recipe):
    """A run of a recipe, without a model."""
    control = recipe.conditioning.control
    run = object.__new__(LoadedRun)
    run.__dict__.update(recipe=recipe, read_names=(*control.high, *control.low))
    return run


def with_fields(recipe, *low, **look):
    control = replace(recipe.conditioning.control, low=low)
    data = replace(recipe.data, look=AugmentationConfig(**look))
    return replace(recipe, data=data, conditioning=replace(recipe.conditioning, control=control))


EMOJI = get_recipe("openmoji/mmdit-disentangled")
FOLDER = get_recipe("folder/mmdit-disentangled")
BUCKETS = replace(FOLDER, data=replace(FOLDER.data, aspect_ratios=(0.5, 1.0, 2.0)))
AUGMENTED = with_fields(
    *(EMOJI, "original_size", "jpeg_quality", "colour_jitter"), jpeg_share=0.5, colour_jitter=1.0
)
GRAINY = with_fields(EMOJI, "grain", grain_share=0.5)
PLAIN = ["original_size", "crop_size", "crop_top", "crop_left", "flip"]


def names_of(recipe):
    return [control.name for control in run_controls(run_of(recipe))]


def test_a_run_has_the_controls_that_it_reads():
    assert names_of(EMOJI) == PLAIN
    assert names_of(BUCKETS) == ["aspect", *PLAIN]
    colours = ["brightness", "contrast", "saturation"]
    assert names_of(AUGMENTED) == [*PLAIN, *colours, "jpeg_quality"]
    assert names_of(GRAINY) == [*PLAIN[1:], "grain"]
    without = replace(EMOJI.conditioning.control, high=(), low=())
    recipe = replace(EMOJI, conditioning=replace(EMOJI.conditioning, control=without))
    assert names_of(recipe) == []


def test_fields_that_training_never_varied_have_no_control():
    text = trained_recipe("pippin/emoji-mmdit-text")
    assert names_of(text) == []
    constant = constant_fields(run_of(text))
    assert set(constant) == {"crop_corner", "crop_size", "flip", "original_size"}
    assert constant_fields(run_of(EMOJI)) == ()
    assert control_request(run_of(text), {"flip": True}) == text.sampling.control


@pytest.mark.parametrize("recipe", [EMOJI, FOLDER, BUCKETS, AUGMENTED, GRAINY])
def test_defaults_make_the_run_s_own_request(recipe):
    run = run_of(recipe)
    assert control_request(run, {}) == base_request(run)
    assert sample_size(run, {}) is None


def test_a_request_of_the_run_with_a_crop_is_its_default():
    own = ControlRequest(original_size=(200, 200), crop_corner=(10, 40), crop_size=(160, 160))
    recipe = replace(EMOJI, sampling=replace(EMOJI.sampling, control=own))
    assert control_request(run_of(recipe), {}) == own
    values = {control.name: control.default for control in run_controls(run_of(recipe))}
    assert values["crop_size"] == 0.8 and (values["crop_top"], values["crop_left"]) == (0.25, 1.0)


def test_values_reach_their_fields():
    values = {"brightness": 0.5, "jpeg_quality": 20, "flip": True, "original_size": 100}
    request = control_request(run_of(AUGMENTED), values)
    assert request.colour_jitter == ColourJitter(brightness=0.5)
    assert (request.jpeg_quality, request.flip, request.original_size) == (20, True, (100, 100))
    assert control_request(run_of(GRAINY), {"grain": 8.0}).grain == 8.0
    assert control_request(run_of(GRAINY), {"original_size": 99}).original_size == (256, 256)


def test_an_aspect_shapes_the_image_its_source_and_its_crop():
    run = run_of(BUCKETS)
    aspect = run_controls(run)[0]
    wide, _, tall = aspect.choices
    for name in (wide, tall):
        height, width = map(int, name.split("x"))
        values = {"aspect": name, "crop_size": 0.75, "original_size": 200}
        request = control_request(run, values)
        assert sample_size(run, values) == name
        assert max(request.original_size) == 200 and max(request.crop_size) == 150
        ratio = request.original_size[0] / request.original_size[1]
        assert ratio == pytest.approx(height / width, rel=0.01)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(24, 256), st.floats(0.75, 0.999), st.floats(0, 1), st.floats(0, 1), st.booleans()
)
def test_any_crop_lies_inside_its_source(side, share, top, left, flip):
    values = {"original_size": side, "crop_size": share, "crop_top": top, "crop_left": left}
    request = control_request(run_of(EMOJI), {**values, "flip": flip})
    crop = request.crop_size[0]
    assert abs(crop - share * side) <= 0.5
    room = side - crop
    assert request.crop_corner == (round(top * room), round(left * room))


def test_the_whole_image_has_no_other_position():
    with pytest.raises(ConfigError, match="no other position: lower the crop size"):
        control_request(run_of(EMOJI), {"crop_size": 1.0, "crop_left": 0.5})
