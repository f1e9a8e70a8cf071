# SPDX-License-Identifier: Apache-2.0
"""Brace expansion as in shells and WebDataset."""

import pytest

from pippin.config import ConfigError
from pippin.data.importing.import_sources import expand_braces


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("s-{008..011}.tar", ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]),
        ("{9..11}", ["9", "10", "11"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("x-{0..1}.tar::y.tar", ["x-0.tar", "x-1.tar", "y.tar"]),
        ("{one}.tar", ["{one}.tar"]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_names(text, names):
    assert expand_braces(text) == names


@pytest.mark.parametrize("text", ["{0..99999999}.tar", "{0..2000}-{0..2000}.tar"])
def test_too_many_names_are_refused(text):
    with pytest.raises(ConfigError, match="more than 1000000 files"):
        expand_braces(text)
