# SPDX-License-Identifier: Apache-2.0
"""Rows of drift strips in words."""

import pytest

from pippin.reports.figures.gallery import read_rows


@pytest.mark.parametrize(
    ("control", "values", "labels"),
    [
        ("original_size", ("32.0, 32.0", "256.0, 256.0"), ("requested 32 px", "requested 256 px")),
        ("original_size", ("32.0, 16.0", "9.0, 9.0"), ("requested 32 x 16 px", "requested 9 px")),
        ("flip", ("0.0,", "1.0,"), ("not mirrored", "mirrored")),
        (
            "crop_corner",
            ("0.0, 0.0", "48.0, 40.0"),
            ("cut from the top left corner", "cut from 48 x 40 px"),
        ),
        ("hue", ("0.5,", "1.0,"), ("hue = 0.5", "hue = 1")),
    ],
)
def test_labels(control, values, labels):
    text = f"top row: {control} = ({values[0]}); bottom row: ({values[1]})"
    rows = read_rows(control, text)
    assert (rows.top, rows.bottom) == labels
    assert rows.sentence == f"top row: {labels[0]}; bottom row: {labels[1]}"


def test_what_the_evaluation_writes_is_understood():
    """The text as pippin.evaluation.runs.run_drift makes it, from a control's tuples."""
    values = [(0.0,), (1.0,)]
    text = f"top row: flip = {values[0]}; bottom row: {values[1]}"
    assert read_rows("flip", text).top == "not mirrored"


@pytest.mark.parametrize("text", ["", "anything", "top row: flip = (x); bottom row: (y)"])
def test_other_texts_are_passed_on(text):
    rows = read_rows("flip", text)
    assert (rows.top, rows.bottom, rows.sentence) == ("", "", text)


def test_a_strip_of_another_control_is_not_relabelled():
    text = "top row: flip = (0.0,); bottom row: (1.0,)"
    assert read_rows("original_size", text).top == ""
