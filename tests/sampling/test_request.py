# SPDX-License-Identifier: Apache-2.0
"""From a control request to the batch that the conditioner reads."""

import pytest
import torch

from pippin.control import Control, Corner, Size
from pippin.sampling.config import ControlRequest
from pippin.sampling.request import fixed_control, request_conditions
from pippin.types import stack_controls

ALL = ("original_size", "crop_corner", "crop_size", "flip")


def test_values_are_those_of_a_training_control():
    request = ControlRequest(
        original_size=(300, 200), crop_corner=(10, 20), crop_size=(128, 96), flip=True
    )
    found = request_conditions([3, 1], request, ALL, num_classes=4)
    control = Control(
        original_size=Size(300, 200),
        crop_corner=Corner(10, 20),
        crop_size=Size(128, 96),
        flip=True,
    )
    wanted = stack_controls([control, control])
    assert found.label.tolist() == [3, 1]
    assert found.control.keys() == set(ALL)
    assert all(torch.equal(found.control[name], wanted[name]) for name in ALL)


def test_the_whole_image_is_the_default_crop():
    found = request_conditions([0], ControlRequest(original_size=(64, 48)), ALL, num_classes=1)
    assert found.control["crop_size"].tolist() == [[64, 48]]


def test_only_the_controls_of_the_model_are_built():
    found = request_conditions([0], ControlRequest(), ["flip"], num_classes=1)
    assert found.control.keys() == {"flip"}
    assert request_conditions([0], ControlRequest(), [], num_classes=1).control == {}


def test_a_model_without_classes():
    found = request_conditions(None, ControlRequest(), ["flip"], num_classes=0, count=5)
    assert found.label is None and found.control["flip"].shape == (5, 1)


def test_original_size_acts_through_a_crop_size_that_follows_it():
    asked = ControlRequest(original_size=(64, 48))
    found = request_conditions([0], asked, ["crop_size"], num_classes=1)
    assert found.control["crop_size"].tolist() == [[64, 48]]


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
@pytest.mark.parametrize("wrong", [-1, None])
def test_unknown_labels_are_refused(num_classes, wrong):
    """The null class, num_classes, is none that one can ask for."""
    wrong = num_classes if wrong is None else wrong
    with pytest.raises(ValueError, match=rf"unknown labels \[{wrong}\].* 0 to {num_classes - 1}"):
        request_conditions([0, wrong], ControlRequest(), [], num_classes=num_classes)


@pytest.mark.parametrize(
    ("request_", "names", "message"),
    [
        (ControlRequest(flip=True), ["crop_corner"], "not conditioned on flip=True"),
        (ControlRequest(original_size=(64, 64)), ["flip"], r"original_size=\(64, 64\)"),
        (ControlRequest(crop_size=(9, 9)), [], "the model takes: no control"),
        (ControlRequest(), ["blur"], r"unknown controls \['blur'\]"),
    ],
)
def test_a_control_without_effect_is_refused(request_, names, message):
    with pytest.raises(ValueError, match=message):
        request_conditions([0], request_, names, num_classes=1)


def test_a_look_is_asked_for_where_the_model_reads_it():
    asked = ControlRequest(jpeg_quality=40)
    found = request_conditions([0], asked, [*ALL, "jpeg_quality"], num_classes=1)
    assert found.control["jpeg_quality"].tolist() == [[40.0]]
    with pytest.raises(ValueError, match="not conditioned on jpeg_quality=40"):
        request_conditions([0], asked, ALL, num_classes=1)


def test_controls_of_single_samples_take_the_place_of_the_request():
    controls = [fixed_control(ControlRequest(flip=flip)) for flip in (True, False)]
    asked = ControlRequest(ask="training")
    found = request_conditions([0, 0], asked, ["flip"], num_classes=1, controls=controls)
    assert found.control["flip"].tolist() == [[1.0], [0.0]]
    for request, given in ((asked, None), (asked, controls[:1]), (ControlRequest(), controls)):
        with pytest.raises(ValueError, match="controls must be"):
            request_conditions([0, 0], request, ["flip"], num_classes=1, controls=given)


@pytest.mark.parametrize(("labels", "count"), [(None, None), ([0, 0], 3)])
def test_the_number_of_samples_must_be_clear(labels, count):
    with pytest.raises(ValueError, match="count"):
        request_conditions(labels, ControlRequest(), [], num_classes=1, count=count)
