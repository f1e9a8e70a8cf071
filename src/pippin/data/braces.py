# SPDX-License-Identifier: Apache-2.0
"""Many file names in one, as users of WebDataset and shells write them."""

import re

from pippin.config import ConfigError
from pippin.system.secrets import split_places, without_secrets

MOST = 1_000_000
"""Names that one text may stand for."""


def expand_braces(text: str) -> list[str]:
    """All names that a text with ``{00..12}`` or ``{a,b}`` stands for, in order.

    A range has the leading zeros of its first number, as in ``{000..012}``; several pairs of
    braces make all combinations, the last one changing fastest; texts joined by ``::`` follow one
    another. Other braces stay as they are.

    Raises:
        ConfigError: more than a million names.
    """
    return [name for part in split_places(text) for name in _names(part)]


def _names(text: str) -> list[str]:
    names = [""]
    for piece in re.split(r"(\{[^{}]*\})", text):
        choices = _choices(piece)
        if len(names) * len(choices) > MOST:
            shown = without_secrets(text)
            raise ConfigError(f"{shown} stands for more than {MOST} files; name fewer")
        names = [name + choice for name in names for choice in choices]
    return names


def _choices(piece: str) -> list[str]:
    """What may stand in the place of a piece."""
    if bounds := re.fullmatch(r"\{(\d+)\.\.(\d+)\}", piece):
        first, last = int(bounds[1]), int(bounds[2])
        step = 1 if first <= last else -1
        counted = range(first, last + step, step)
        if len(counted) > MOST:
            raise ConfigError(f"{piece} stands for more than {MOST} files; name fewer")
        return [f"{n:0{len(bounds[1])}}" for n in counted]
    if re.fullmatch(r"\{.*,.*\}", piece):
        return piece[1:-1].split(",")
    return [piece]
