# SPDX-License-Identifier: Apache-2.0
"""Meaning of a number that is given as a class."""

import pytest

from pippin.data.record import find_label


@pytest.mark.parametrize(
    ("label", "names", "number"),
    [
        ("dog", ["cat", "dog"], 1),
        ("1", ["cat", "dog"], 1),
        ("2", ["0", "1", "2", "10"], 2),
        ("10", ["0", "1", "10", "2"], 2),  # in the order of an older run
        ("2", ["0", "1", "10", "2"], 3),
        ("2", ["0.0", "1.0", "10.0", "2.0"], 3),
        ("2.0", ["0", "1", "2"], 2),
        ("7", ["07", "8"], 0),
        ("07", ["7", "07"], 1),
        ("-1", ["-1", "0"], 0),
        ("0", ["-1", "0"], 1),
        ("5", ["5", "cat"], 0),
    ],
)
def test_a_number_is_a_name_where_names_are_numbers(label, names, number) -> None:
    assert find_label(label, names) == number


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("1", ["0", "2", "10"]),
        ("0", ["1", "2", "3"]),
        ("1", ["0", "2", "cat"]),
        ("1", ["1.0", "1.00"]),
        ("3", ["cat", "dog"]),
        ("-1", ["cat", "dog"]),
        ("\u0662", ["cat", "dog", "eel"]),
        ("bird", ["cat", "dog"]),
    ],
)
def test_what_no_class_is_called_is_refused(label, names) -> None:
    with pytest.raises(ValueError, match=f"no class '{label}'; there are: 0 {names[0]}, 1"):
        find_label(label, names)


def test_the_refusal_says_that_numbers_are_names() -> None:
    with pytest.raises(ValueError, match="a number is a name and no id"):
        find_label("1", ["0", "2"])
