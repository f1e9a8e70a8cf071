# SPDX-License-Identifier: Apache-2.0
"""Captions and labels become plain text, or are rejected with the reason."""

from decimal import Decimal
from itertools import permutations

import numpy as np
import pytest

from pippin.data.folder.caption_files import NotTextError, clean_caption, clean_label, sort_labels


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a dog", "a dog"),
        ("\ufeffa  dog\r\n on grass\n", "a dog on grass"),
        (" \ufeff \ufeff a dog \ufeff", "a dog"),
        (b"\xef\xbb\xbfa dog", "a dog"),
        ("caf\xe9".encode(), "caf\xe9"),
        ("a\ufeffb", "a\ufeffb"),
        (7, "7"),
        (2.5, "2.5"),
        (True, "True"),
    ],
)
def test_captions_are_one_line_of_text(value, text):
    assert clean_caption(value) == text


@pytest.mark.parametrize("clean", [clean_caption, clean_label])
@pytest.mark.parametrize(
    "value",
    [None, "", " \n", b"", "\ufeff", float("nan"), np.float32("nan"), Decimal("NaN")],
)
def test_empty_cells_are_none(clean, value):
    assert clean(value) is None


@pytest.mark.parametrize("value", ["nan", "NaN", b"None", " null\n", "<NA>"])
def test_names_of_nothing_are_no_caption_and_may_be_a_class(value):
    assert clean_caption(value) is None
    assert clean_label(value) is not None


@pytest.mark.parametrize(
    "value", ["{'en': 'a dog'}", '{"en": "a dog", "de": null}', '["a dog", "a cat"]', "['a dog',]"]
)
def test_dictionaries_and_lists_that_were_written_as_text_are_no_captions(value):
    with pytest.raises(NotTextError, match=r"is a (dict|list) written as text"):
        clean_caption(value)


@pytest.mark.parametrize("text", ["[a dog]", "{dog, cat}", "[]ab", "{a dog: 'x'} and more", "(1)"])
def test_text_in_brackets_is_a_caption(text):
    assert clean_caption(text) == text


@pytest.mark.parametrize("clean", [clean_caption, clean_label])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"caf\xe9", r"is not UTF-8 text \(line 1, byte 3"),
        ("a cat \ud83d", r"is not Unicode text \(character 6 "),
        ({"en": "a dog", "de": "ein Hund"}, r"is a dictionary \(with en, de\), not text"),
        ({}, r"is a dictionary \(with no entries\), not text"),
        (["a dog"], "is of type list, not text"),
    ],
)
def test_other_values_are_refused_with_the_reason(clean, value, reason):
    with pytest.raises(NotTextError, match=reason):
        clean(value)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (2, "2"),
        (2.0, "2"),
        (-1.0, "-1"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (1e20, "1" + 20 * "0"),
        (float("inf"), "inf"),
        (np.float32(3), "3"),
        (np.int64(3), "3"),
        (Decimal("2.00"), "2"),
        ("2.0", "2"),
        ("-0.0", "0"),
        ("10.00", "10"),
        (b"3", "3"),
        ("07", "07"),
        ("1.10", "1.10"),
        ("v2.0", "v2.0"),
        ("2.0.0", "2.0.0"),
        ("\ufeffcat\n", "cat"),
    ],
)
def test_whole_numbers_are_labels_without_decimals(value, name):
    assert clean_label(value) == name


@pytest.mark.parametrize(
    "ordered",
    [
        ["0", "1", "2", "10"],
        ["-1", "-0.5", "0", "2.5", "1e1", "11"],
        ["2", "10", "b2", "cat", "dog"],
        ["07", "7", "8"],
        ["1.2.3", "cat"],
    ],
)
def test_labels_that_are_numbers_are_ordered_by_value(ordered):
    for labels in permutations(ordered) if len(ordered) < 6 else [reversed(ordered)]:
        assert sort_labels([*labels, ordered[0]]) == ordered
