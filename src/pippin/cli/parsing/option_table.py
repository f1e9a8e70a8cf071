# SPDX-License-Identifier: Apache-2.0
"""Options of a command, read from its dataclasses without building a parser."""

import ast
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, Union

import tyro

FREE_MAPPINGS = (dict[str, float], dict[str, str])
"""Mappings that are one option, with names and values as its words; see
:mod:`pippin.cli.parsing.options`."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a command."""

    name: str
    """As on the command line, such as ``train.batch-size``; a positional argument's field name."""
    kind: Any
    """Its type."""
    default: Any
    """Value without the option; :data:`dataclasses.MISSING` if it is required."""
    owner: type
    """Class that declares the option's field."""
    field: str
    positional: bool = False

    @property
    def meaning(self) -> str:
        """Docstring of the field; reading it takes a while, so only help does."""
        return field_meanings(self.owner).get(self.field, "")

    @property
    def boolean(self) -> bool:
        """Whether True and False are values of the option."""
        return bool in _admitted(self.kind)

    @property
    def words(self) -> tuple[str, ...]:
        """Values of an option with a fixed choice; empty for any other."""
        words: list[str] = []
        for kind in _admitted(self.kind):
            if kind is bool:
                words += ["True", "False"]
            elif kind is type(None):
                words += ["None"]
            elif typing.get_origin(kind) is typing.Literal:
                words += map(str, typing.get_args(kind))
            else:
                return ()
        return tuple(words)


def option_table(kind: Any, default: Any = None) -> dict[str, Option]:
    """Options of a command by name, in the order of its fields.

    Args:
        kind: class of the command.
        default: instance whose values are the defaults. A setting of several possible classes has
            the options of its default's class.
    """
    return {option.name: option for option in _options(kind, default, "")}


def _options(kind: Any, default: Any, prefix: str) -> Iterator[Option]:
    """Options of a dataclass or named tuple."""
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if typing.get_origin(hint) is typing.ClassVar or name not in _defaults(kind):
            continue
        extras: tuple[Any, ...] = ()
        if typing.get_origin(hint) is typing.Annotated:
            hint, *rest = typing.get_args(hint)
            extras = tuple(rest)
        value = _defaults(kind)[name] if default is None else getattr(default, name)
        renamed = (extra.name for extra in extras if getattr(extra, "name", None) is not None)
        option = Option(
            name=prefix + next(renamed, name).replace("_", "-"),
            kind=hint,
            default=value,
            owner=kind,
            field=name,
            positional=any(map(_is_positional, extras)),
        )
        yield from _nested(option)


def _nested(option: Option) -> Iterator[Option]:
    """The option itself, or those of the group that it holds."""
    value, hint = option.default, option.kind
    inner = f"{option.name}." if option.name and option.name[-1] != "." else option.name
    if _is_group(value):
        yield from _options(type(value), value, inner)
    elif _has_fields(hint):
        yield from _options(hint, None, inner)
    elif isinstance(value, dict) and hint not in FREE_MAPPINGS and value:
        for key, entry in value.items():  # tyro: one option for each key of the default
            kind = typing.get_args(hint)[1]
            yield replace(option, name=f"{inner}{key.replace('_', '-')}", kind=kind, default=entry)
    else:
        yield option


def _is_positional(extra: Any) -> bool:
    """Whether an annotation is :data:`tyro.conf.Positional`, which type hints may unwrap."""
    return extra in typing.get_args(tyro.conf.Positional[int])[1:]


def _has_fields(kind: Any) -> bool:
    """Whether a type is a dataclass or a named tuple, whose fields are options."""
    return isinstance(kind, type) and (is_dataclass(kind) or hasattr(kind, "_fields"))


def _is_group(value: Any) -> bool:
    return _has_fields(type(value))


@cache
def _defaults(kind: Any) -> dict[str, Any]:
    """Fields of a class and their defaults; MISSING for a required one."""
    if not is_dataclass(kind):
        return {name: kind._field_defaults.get(name, MISSING) for name in kind._fields}
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(kind)
    }


def _admitted(hint: Any) -> tuple[Any, ...]:
    """Types that a hint admits: those of a union, or the one itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, UnionType) else (hint,)


@cache
def field_meanings(kind: type) -> dict[str, str]:
    """Docstring under each field of a dataclass and of the classes it derives from."""
    meanings: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if not is_dataclass(owner) or owner.__module__ not in sys.modules:
            continue
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(node, ast.ClassDef)
        for field, text in zip(node.body, node.body[1:], strict=False):
            match field, text:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(words))),
                ):
                    meanings[name] = re.sub(r"\s+", " ", words).strip()
    return meanings
