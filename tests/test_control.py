# SPDX-License-Identifier: Apache-2.0
"""Declarations of control fields, and everything derived from them."""

from dataclasses import fields

from pippin.conditioning.config import ControlConfig
from pippin.control import (
    AUGMENTATION_FIELDS,
    CONTROL_FIELDS,
    PROBED_CONTROLS,
    Augmentation,
    ColourJitter,
    Control,
    Corner,
    Size,
    recorded_fields,
)
from pippin.data.views.crop import whole_image
from pippin.evaluation.config import SCALABLE
from pippin.sampling.config import ControlRequest

ODD = Control(
    original_size=Size(30, 70),
    crop_corner=Corner(3, 4),
    crop_size=Size(20, 20),
    flip=True,
    colour_jitter=ColourJitter(0.5, 2.0, 1.25),
    jpeg_quality=17,
)


def test_values_come_back_as_they_were_with_their_types():
    again = Control.from_values(ODD.values())
    assert again == ODD and isinstance(again.colour_jitter, ColourJitter)
    assert type(again.jpeg_quality) is int and type(again.flip) is bool


def test_a_record_without_augmentation_fields_is_clean():
    values = {
        name: value for name, value in ODD.values().items() if name not in AUGMENTATION_FIELDS
    }
    assert Control.from_values(values).values() == {
        **whole_image(Size(8, 8)).values(),
        **values,
    }


def test_declared_parts_are_those_of_the_values():
    for name, numbers in ODD.values().items():
        assert CONTROL_FIELDS[name].parts == len(numbers), name


def test_clean_values_lie_in_their_declared_ranges():
    for entry in fields(Augmentation):
        clean, declared = entry.default, CONTROL_FIELDS[entry.name]
        numbers = clean if isinstance(clean, tuple) else (clean,)
        assert all(declared.low <= number <= declared.high for number in numbers)


def test_a_request_has_the_fields_of_a_control():
    requested = {entry.name for entry in fields(ControlRequest)} - {"ask"}
    assert requested == {entry.name for entry in fields(Control)}


def test_the_fields_read_by_default_stand_in_the_group_they_declare():
    for group in ("high", "low"):
        assert {CONTROL_FIELDS[name].group for name in getattr(ControlConfig(), group)} == {group}


def test_fields_are_computed_from_what_is_recorded():
    assert recorded_fields(["aspect_ratio"]) == ("original_size",)
    assert recorded_fields(["flip", "crop_size"]) == ("flip", "crop_size", "original_size")


def test_a_measured_field_has_words_and_an_augmentation_a_value_to_measure_it_at():
    for name, declared in CONTROL_FIELDS.items():
        assert (declared.effect is not None) == bool(declared.label and declared.phrase), name
        if name in AUGMENTATION_FIELDS:
            assert declared.effect is not None, name
            numbers = declared.probe_value
            for number in numbers if isinstance(numbers, tuple) else (numbers,):
                assert declared.low <= number <= declared.high, name
        else:
            assert declared.probe_value is None and declared.strongest is None, name


def test_controls_keep_their_order_in_reports():
    assert PROBED_CONTROLS[:6] == (
        *("original_size", "crop_corner", "flip"),
        *("jpeg_quality", "colour_jitter", "grain"),
    )
    assert {*SCALABLE} == {*PROBED_CONTROLS} - {"flip"}
