# SPDX-License-Identifier: Apache-2.0
"""Format numbers with as many digits as their interval justifies."""

import math


def number(value: float, spread: float | None = None) -> str:
    """A value up to the second digit of its spread; up to 4 digits without a spread.

    Millions have a suffix: ``2.358 M``.
    """
    size = max(abs(value), abs(spread or 0.0))
    if 1e6 <= size < 1e12:
        return f"{number(value / 1e6, spread / 1e6 if spread else None)}\N{NO-BREAK SPACE}M"
    if size != 0 and not 1e-4 <= size < 1e6:
        return f"{value:.2e}"
    text = f"{value:.{_decimals(value, spread)}f}"
    return text if spread or "." not in text else text.rstrip("0").rstrip(".")


def signed(value: float, spread: float | None = None, plus: str = "+") -> str:
    """Like :func:`number`, with a sign (U+2212 for minus)."""
    text = number(abs(value), spread)
    return f"\N{MINUS SIGN}{text}" if value < 0 else f"{plus}{text}"


def roughly(value: float) -> str:
    """Two digits with a sign: for a difference of unknown precision."""
    return signed(value, abs(value))


def plus_minus(value: float, spread: float, plus: str = "") -> str:
    """``0.412 ± 0.016``, with no-break spaces."""
    if spread <= 1e-9 * abs(value):  # rounding of equal numbers
        spread = 0.0
    text = f"{signed(value, spread, plus)} ± {number(spread, spread)}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _decimals(value: float, spread: float | None) -> int:
    scale, digits = (spread, 2) if spread else (abs(value), 4)
    if not scale:
        return 3
    return min(max(digits - 1 - math.floor(math.log10(scale)), 0), 6)
