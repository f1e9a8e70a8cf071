# SPDX-License-Identifier: Apache-2.0
"""Prompts of the images of a grid, from its manifest."""

from collections.abc import Iterable, Mapping
from typing import Any


def prompt_texts(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """``a red circle (seed 0)`` for each row of a manifest that has a prompt.

    Prompts are untrusted text: only a template that escapes may show them.
    """
    return tuple(
        f"{str(row['prompt']).strip() or '(empty)'} (seed {row.get('seed', 'unknown')})"
        for row in rows
        if "prompt" in row
    )
