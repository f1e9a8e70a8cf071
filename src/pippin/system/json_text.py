# SPDX-License-Identifier: Apache-2.0
"""JSON from files of others: whatever is wrong with it is one kind of error."""

import json
from collections.abc import Callable
from typing import Any


def parse_json(text: str | bytes, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """The value of a JSON text.

    Args:
        text: bytes are UTF-8, UTF-16 or UTF-32.
        parse_constant: called with NaN, Infinity or -Infinity; None = they are floats.

    Raises:
        ValueError: no JSON, no text, or nested too deep to be read.
    """
    try:
        return json.loads(text, parse_constant=parse_constant)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deep") from error
