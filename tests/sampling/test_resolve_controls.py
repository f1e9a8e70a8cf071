# SPDX-License-Identifier: Apache-2.0
"""Controls of samples that are resolved from the data."""

from dataclasses import replace

import pytest
import torch

from pippin.conditioning.control_embedding import unit_values
from pippin.control import LARGEST_SIDE, Size
from pippin.data.config import ImagesConfig
from pippin.data.views.views import view_control
from pippin.sampling.config import ControlRequest
from pippin.sampling.request import resolve_controls
from pippin.sampling.sample import draw, sampling_protocol
from pippin.types import stack_controls


def test_a_fixed_request_leaves_nothing_to_the_data(run):
    assert resolve_controls(run, ControlRequest(), [0], [0]) is None


def test_clean_is_the_whole_untouched_image_at_a_size_of_the_data(run):
    first, second = resolve_controls(run, ControlRequest(ask="clean"), [0, 3], [5, 6])
    assert first == second == run.components.train_source.clean_control(0)


@pytest.mark.parametrize("size", [Size(16, 96), Size(96, 16), Size(32, 32)])
def test_clean_in_a_long_bucket_is_a_size_that_control_reads(run, size, monkeypatch):
    data = ImagesConfig(path="photos", resolution=32, aspect_ratios=(1 / 6, 1.0, 6.0))
    of_photos = replace(run, recipe=replace(run.recipe, data=data))
    monkeypatch.setattr(type(run.components), "probe_side", 2000)
    (control,) = resolve_controls(of_photos, ControlRequest(ask="clean"), [0], [0], size)
    unit_values("original_size", stack_controls([control]))
    wanted = min(LARGEST_SIDE, 2000 * max(size) // min(size))
    assert max(control.original_size) == wanted
    assert control.original_size.height / control.original_size.width == pytest.approx(
        size.height / size.width, rel=1e-3
    )


def test_training_values_are_those_of_views_of_the_asked_class(run):
    source = run.components.train_source
    labels = [source.label(index) for index in range(len(source))]
    prompts = labels * 3
    seeds = list(range(len(prompts)))
    found = resolve_controls(run, ControlRequest(ask="training"), prompts, seeds)
    for prompt, control in zip(prompts, found, strict=True):
        mine = [index for index, label in enumerate(labels) if label == prompt]
        views = [view_control(source, index, view) for index in mine for view in (0, 1)]
        assert control in views
    assert len(set(found)) > len(source) // 2
    again = resolve_controls(run, ControlRequest(ask="training"), prompts[5:], seeds[5:])
    assert again == found[5:]  # a seed's own, whatever its company


def test_a_class_without_images_has_no_law(run):
    present = {
        run.components.train_source.label(i) for i in range(len(run.components.train_source))
    }
    absent = next(label for label in range(len(run.class_names)) if label not in present)
    with pytest.raises(ValueError, match="no training image is of class"):
        resolve_controls(run, ControlRequest(ask="training"), [absent], [0])


def test_what_is_asked_for_is_part_of_the_protocol_and_of_the_samples(run):
    sampling = run.recipe.sampling
    asking = replace(sampling, control=ControlRequest(ask="training"))
    assert sampling_protocol(run, asking)["sampling.control.ask"] == "training"
    label = run.components.train_source.label(0)
    images = draw(run, [label] * 2, [0, 1], asking)
    assert images.shape == (2, 3, 32, 32) and images.dtype == torch.uint8
