# SPDX-License-Identifier: Apache-2.0
"""Labels of the two rows of a drift strip."""

import re
from dataclasses import dataclass

_ROWS = re.compile(r"top row: (\S+) = \(([^)]*)\); bottom row: \(([^)]*)\)")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Labels of the two rows."""

    top: str
    bottom: str
    """Labels beside the rows; both empty if the manifest has another format."""
    sentence: str
    """Both labels in one sentence; the manifest's text if it has another format."""


def read_rows(control: str, text: str) -> Rows:
    """Labels from a strip's manifest: ``top row: flip = (0.0,); bottom row: (1.0,)``."""
    match = _ROWS.fullmatch(text.strip())
    values = [_numbers(match[2]), _numbers(match[3])] if match else []
    if not match or match[1] != control or not all(values):
        return Rows(top="", bottom="", sentence=text.strip())
    top, bottom = (_label(control, value) for value in values)
    return Rows(top=top, bottom=bottom, sentence=f"top row: {top}; bottom row: {bottom}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        return []


def _label(control: str, values: list[float]) -> str:
    plain = " x ".join(f"{value:g}" for value in values)
    if control == "original_size":
        size = f"{values[0]:g}" if len(set(values)) == 1 else plain
        return f"requested {size} px"
    if control == "flip":
        return "mirrored" if values[0] else "not mirrored"
    if control == "crop_corner":
        return f"cut from {plain} px" if any(values) else "cut from the top left corner"
    return f"{control} = {plain}"
