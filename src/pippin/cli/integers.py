# SPDX-License-Identifier: Apache-2.0
"""Whole numbers as options take them: ``100000``, ``1_000_000``, ``1e5``, ``500k``, ``2M``."""

import re
from fractions import Fraction

FACTORS = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}
"""Suffix -> factor. No lower-case m, which is milli elsewhere."""
_NUMBER = re.compile(r"([+-]?\d+(?:_\d+)*(?:\.\d+)?(?:[eE][+-]?\d{1,2})?)([kKM]?)", re.ASCII)


def parse_integer(text: str) -> int:
    """Parse a whole number, exactly.

    Raises:
        ValueError: anything else, such as 1.5 or 1e-3.
    """
    number = _NUMBER.fullmatch(text.strip())
    if number is not None:
        value = Fraction(number[1].replace("_", "")) * FACTORS[number[2]]
        if value.denominator == 1:
            return int(value)
    raise ValueError(
        f"give a whole number, such as 1000000, 1_000_000, 1e6, 500k or 2M; got {text!r}"
    )
