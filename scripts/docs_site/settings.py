# SPDX-License-Identifier: Apache-2.0
"""Rows of the reference tables for a dataclass of settings: types, defaults and docstrings."""

import inspect
import typing
from dataclasses import MISSING, Field, fields, is_dataclass
from types import UnionType
from typing import Any, Union

HEAD = "| {} | type | default | meaning |\n| --- | --- | --- | --- |"


def table(title: str, rows: list[tuple[str, str, str, str]]) -> str:
    """Rows in Markdown; the first cell of each is code."""
    if not rows:
        return "No settings.\n"
    lines = [HEAD.format(title)]
    for name, *cells in rows:
        escaped = (cell.replace("|", "\\|") for cell in cells)
        lines.append(f"| `{name}` | {' | '.join(escaped)} |")
    return "\n".join(lines) + "\n"


def alternatives(hint: Any) -> list[type]:
    """The configuration classes that a type admits: itself, those of a union, or those derived."""
    if is_dataclass(hint):
        derived = [one for one in _derived(hint) if kind_of(one)]
        return derived if derived and not kind_of(hint) else [typing.cast(type, hint)]
    if typing.get_origin(hint) in (Union, UnionType, tuple):
        return [kind for one in typing.get_args(hint) for kind in alternatives(one)]
    return []


def kind_of(kind: Any) -> str:
    """The default of the field ``kind``; empty where there is none."""
    for one in fields(kind):
        if one.name == "kind" and one.default is not MISSING:
            return str(one.default)
    return ""


def kind_name(kind: type) -> str:
    """The kind as code, or the name of the class."""
    return f"`{kind_of(kind) or kind.__name__}`"


def type_text(hint: Any) -> str:
    """``int or None``; literals as the words that they admit."""
    if hint is type(None):
        return "None"
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return type_text(inner[0])
    if origin is typing.Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if origin in (Union, UnionType):
        return " or ".join(map(type_text, inner))
    if origin in (tuple, list, dict):
        shown = ", ".join("..." if one is ... else type_text(one) for one in inner)
        return f"{origin.__name__} of {shown}"
    return str(getattr(hint, "__name__", hint))


def default_text(one: Field[Any]) -> str:
    """The default as code, or that there is none."""
    if one.default is not MISSING:
        value = one.default
    elif one.default_factory is not MISSING:
        value = one.default_factory()
    else:
        return "required"
    if is_dataclass(value):
        return kind_name(type(value))
    shown = str(value) if hasattr(value, "as_posix") else repr(value)
    return f"`{shown}`" if len(shown) < 60 else "see `--help-all`"


def summary(kind: type) -> str:
    """The docstring of a class."""
    return inspect.cleandoc(kind.__doc__ or "") + "\n"


def _derived(kind: Any) -> list[type]:
    below = kind.__subclasses__()
    return below + [deeper for one in below for deeper in _derived(one)]
