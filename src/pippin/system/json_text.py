# SPDX-License-Identifier: Apache-2.0
"""Parsing of foreign JSON: every defect raises the same type of error."""

import json
from collections.abc import Callable
from typing import Any


def parse_json(
    text: str | bytes,
    parse_constant: Callable[[str], Any] | None = None,
    *,
    unique: bool = False,
) -> Any:
    """Parse a JSON text.

    Args:
        text: bytes are UTF-8, UTF-16 or UTF-32.
        parse_constant: called with NaN, Infinity or -Infinity; None = they are floats.
        unique: refuse duplicate keys of an object; otherwise the last value counts.

    Raises:
        ValueError: not JSON, not text, nested too deep, or a duplicate key.
    """
    try:
        return json.loads(
            text, parse_constant=parse_constant, object_pairs_hook=_unique if unique else None
        )
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Object of key-value pairs; a duplicate key is ambiguous and refused."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {duplicate!r} in one object; remove one of them")
    return values
