# SPDX-License-Identifier: Apache-2.0
"""Numbers as a reader wants them: as many digits as the interval deserves."""

import math


def number(value: float, spread: float | None = None) -> str:
    """A value up to its spread's second digit; with 4 digits where there is no spread."""
    size = max(abs(value), abs(spread or 0.0))
    if size != 0 and not 1e-4 <= size < 1e6:
        return f"{value:.2e}"
    return f"{value:.{_decimals(value, spread)}f}"


def signed(value: float, spread: float | None = None, plus: str = "+") -> str:
    """As :func:`number`, with a sign (a true minus)."""
    text = number(abs(value), spread)
    return f"\N{MINUS SIGN}{text}" if value < 0 else f"{plus}{text}"


def plus_minus(value: float, spread: float, plus: str = "") -> str:
    """``0.412 ± 0.016``, with spaces that do not break."""
    if spread <= 1e-9 * abs(value):  # rounding of equal numbers
        spread = 0.0
    text = f"{signed(value, spread, plus)} ± {number(spread, spread)}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _decimals(value: float, spread: float | None) -> int:
    scale, digits = (spread, 2) if spread else (abs(value), 4)
    if not scale:
        return 3
    return min(max(digits - 1 - math.floor(math.log10(scale)), 0), 6)
