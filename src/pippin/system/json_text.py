# SPDX-License-Identifier: Apache-2.0
"""JSON from files of others: whatever is wrong with it is one kind of error."""

import json
from collections.abc import Callable
from typing import Any


def parse_json(
    text: str | bytes,
    parse_constant: Callable[[str], Any] | None = None,
    *,
    unique: bool = False,
) -> Any:
    """The value of a JSON text.

    Args:
        text: bytes are UTF-8, UTF-16 or UTF-32.
        parse_constant: called with NaN, Infinity or -Infinity; None = they are floats.
        unique: refuse an object that has a key twice; otherwise its last value counts.

    Raises:
        ValueError: no JSON, no text, nested too deep to be read, or a key that stands twice.
    """
    try:
        return json.loads(
            text, parse_constant=parse_constant, object_pairs_hook=_unique if unique else None
        )
    except RecursionError as error:
        raise ValueError("its brackets are nested too deep") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; which of two values of a key is meant, nobody knows."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object; remove one of them")
    return values
