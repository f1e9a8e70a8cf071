# SPDX-License-Identifier: Apache-2.0
"""Brace expansion of file names, as in WebDataset URLs and shells."""

import re

from pippin.config import ConfigError
from pippin.system.secrets import split_sources, strip_url_secrets

MAX_NAMES = 1_000_000
"""Maximum number of names that one pattern may expand to."""


def expand_braces(text: str) -> list[str]:
    """Expand a pattern with ``{00..12}`` or ``{a,b}`` to all its names, in order.

    A range keeps the leading zeros of its first number, as in ``{000..012}``. Several pairs of
    braces give all combinations; the last pair changes fastest. Patterns joined by ``::`` follow
    one another. Other braces stay as they are.

    Raises:
        ConfigError: more than a million names.
    """
    return [name for part in split_sources(text) for name in _names(part)]


def _names(text: str) -> list[str]:
    names = [""]
    for piece in re.split(r"(\{[^{}]*\})", text):
        choices = _choices(piece)
        if len(names) * len(choices) > MAX_NAMES:
            pattern = strip_url_secrets(text)
            raise ConfigError(f"{pattern} expands to more than {MAX_NAMES} files; name fewer")
        names = [name + choice for name in names for choice in choices]
    return names


def _choices(piece: str) -> list[str]:
    """Alternatives for one piece of a pattern."""
    if bounds := re.fullmatch(r"\{(\d+)\.\.(\d+)\}", piece):
        first, last = int(bounds[1]), int(bounds[2])
        step = 1 if first <= last else -1
        numbers = range(first, last + step, step)
        if len(numbers) > MAX_NAMES:
            raise ConfigError(f"{piece} expands to more than {MAX_NAMES} files; name fewer")
        return [f"{n:0{len(bounds[1])}}" for n in numbers]
    if re.fullmatch(r"\{.*,.*\}", piece):
        return piece[1:-1].split(",")
    return [piece]
