# SPDX-License-Identifier: Apache-2.0
"""Help with the common options of a command, in groups."""

import inspect
import re
import shutil
import textwrap
import typing
from collections.abc import Iterator, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from pippin.cli.common_options import MEANINGS, Groups
from pippin.cli.option_table import Option, option_table

NAME_WIDTH, MAX_WIDTH = 34, 110
"""Columns of option names, and of the whole text."""
MAX_DEFAULT = 40
NOTE = (
    "--help-all lists all {count} options. A boolean option needs no value: --x is --x True, "
    "--no-x is --x False."
)


def common_help(kind: Any, prog: str, default: Any, groups: Groups) -> str:
    """Usage, the command's own options, the common ones in groups, and how to list all."""
    table = option_table(kind, default)
    listed = {name for names in groups.values() for name in names}
    own = [name for name in table if _is_own(kind, table[name]) and name not in listed]
    width = min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)
    sections = {"general": tuple(own), **groups}
    lines = [f"usage: {prog} [options]", "", inspect.cleandoc(kind.__doc__ or "")]
    for title, names in sections.items():
        options = [table[name] for name in names if name in table]
        if options:
            lines += ["", f"{title}:", *_section(options, width)]
    return "\n".join([*lines, "", *textwrap.wrap(NOTE.format(count=len(table)), width)])


def _is_own(kind: Any, option: Option) -> bool:
    return option.owner in kind.__mro__ and not option.positional


def _section(options: Sequence[Option], width: int) -> Iterator[str]:
    for option in options:
        head = f"  --{option.name} {_values(option)}".rstrip()
        text = textwrap.wrap(_meaning(option), max(20, width - NAME_WIDTH))
        if len(head) >= NAME_WIDTH:
            yield head
        else:
            first = text.pop(0) if text else ""
            yield f"{head:<{NAME_WIDTH}}{first}".rstrip()
        yield from (" " * NAME_WIDTH + line for line in text)


def _meaning(option: Option) -> str:
    """First sentence of the option's docstring, and its default."""
    last = option.name.rpartition(".")[2]
    text = option.meaning or MEANINGS.get(option.name) or MEANINGS.get(last, "")
    sentence = re.split(r"(?<=[^.]\.)\s", text, maxsplit=1)[0].rstrip(".")
    if option.default is MISSING:
        return f"{sentence} (required)".strip()
    return f"{sentence} (default: {_shown(option.default)})".strip()


def _shown(value: Any) -> str:
    words = value if isinstance(value, tuple | list) else [value]
    text = " ".join(map(str, words)) or "none"
    return text if len(text) <= MAX_DEFAULT else f"{text[: MAX_DEFAULT - 3]}..."


def _values(option: Option) -> str:
    """``sd|flow``, ``N``, ``X``, ``PATH`` or ``TEXT``; nothing for a plain boolean."""
    if option.boolean:
        return "" if option.words == ("True", "False") else f"[{'|'.join(option.words)}]"
    return "|".join(option.words) or _placeholder(option.kind)


def _placeholder(hint: Any) -> str:
    inner = [kind for kind in typing.get_args(hint) if kind not in (type(None), ...)]
    if typing.get_origin(hint) in (tuple, list):
        words = dict.fromkeys(map(_placeholder, inner))
        return " ".join([*words, "..."])
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(map(str, inner))
    if inner:
        return "|".join(dict.fromkeys(map(_placeholder, inner)))
    return {int: "N", float: "X", Path: "PATH"}.get(hint, "TEXT")
