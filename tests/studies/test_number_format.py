# SPDX-License-Identifier: Apache-2.0
"""Numbers are written with the digits they deserve."""

import pytest

from pippin.studies.statistics import number, plus_minus, signed


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (0.41234, 0.0061, "0.4123"),
        (345.6, 12.3, "346"),
        (0.5, 0.0, "0.5"),
        (0.0, None, "0"),
        (1234.5, None, "1234"),
        (100.0, None, "100"),
        (3.2e-7, None, "3.20e-07"),
        (2.5e8, None, "250\N{NO-BREAK SPACE}M"),
        (2_357_696.0, None, "2.358\N{NO-BREAK SPACE}M"),
        (2_500_000.0, 40_000.0, "2.500\N{NO-BREAK SPACE}M"),
        (3e12, None, "3.00e+12"),
        (0.0, 0.02, "0.000"),
    ],
)
def test_number(value, spread, text):
    assert number(value, spread) == text


def test_signs():
    assert signed(-0.5) == "\N{MINUS SIGN}0.5"
    assert signed(0.5) == "+0.5"
    assert plus_minus(-0.5, 0.012).split() == ["\N{MINUS SIGN}0.500", "±", "0.012"]
