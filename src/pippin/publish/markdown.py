# SPDX-License-Identifier: Apache-2.0
"""Text of others (names of classes, prompts, paths) inside Markdown, which the hub renders with
HTML."""

import json
import re

from pippin.system.text import printable


def cell(text: object) -> str:
    """Text in a line of Markdown, without effect on it."""
    line = one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)


def one_line(text: object) -> str:
    """Text in one line, with visible escapes for control characters."""
    return " ".join(printable(text).split())


def literal(text: str) -> str:
    """Text as a literal of Python.

    JSON would escape characters beyond 16 bits as two halves, which Python does not join.
    """
    return json.dumps(text, ensure_ascii=False)


def code_block(language: str, text: str) -> list[str]:
    """Lines of a block of code that the text cannot end."""
    return [f"```{language}", text.replace("```", "'''"), "```"]
