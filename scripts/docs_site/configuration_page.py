# SPDX-License-Identifier: Apache-2.0
"""The reference page of all settings, read from the dataclasses of the recipe tree."""

import typing
from collections.abc import Iterator
from dataclasses import fields

from settings import (
    alternatives,
    default_text,
    kind_name,
    summary,
    table,
    type_text,
)

from pippin.cli.parsing.option_table import field_meanings
from pippin.recipes.recipe import Recipe

HEAD = """# Configuration

Every setting of a [recipe](recipes.md) is an option of the commands that take a recipe:
`train.batch_size` is `--train.batch-size`. `config.json` of a run folder records all of them.
`pippin show RECIPE --yaml` writes them as YAML, to be edited, and `pippin train --config FILE`
reads either. An unknown setting is refused with the nearest known one.

In Python a recipe is a tree of frozen dataclasses:
`replace(recipe, train=replace(recipe.train, batch_size=64))`.

The tables are generated from the code. A default is that of the class; a recipe may have another
one (`pippin show RECIPE`, `pippin train RECIPE --help-all`). Where a setting admits several kinds,
the command line keeps the kind of the recipe, and Python may take another one.
"""
Row = tuple[str, str, str, str]


def configuration_page() -> str:
    """One section for each part of the recipe tree."""
    hints = typing.get_type_hints(Recipe)
    parts = [HEAD, "\n## Top level\n", table("setting", list(_top()))]
    for name, hint in hints.items():
        kinds = alternatives(hint)
        if not kinds:
            continue
        parts.append(f"\n## {name}\n")
        choices: dict[type, str] = {}
        for kind in kinds:
            if len(kinds) > 1:
                parts.append(f"\n### {name}: {kind_name(kind)}\n")
            parts += [summary(kind), table("setting", list(_rows(kind, f"{name}.", choices)))]
        parts += _choices(choices)
    return "\n".join(parts) + "\n"


def _top() -> Iterator[Row]:
    """Settings of the recipe itself, and where each part of it is listed."""
    hints, docs = typing.get_type_hints(Recipe), field_meanings(Recipe)
    for one in fields(Recipe):
        if kinds := alternatives(hints[one.name]):
            several = f"One of {', '.join(map(kind_name, kinds))}."
            meaning = several if len(kinds) > 1 else summary(kinds[0]).partition("\n")[0]
            yield one.name, f"[part](#{one.name})", "", meaning
        else:
            yield one.name, type_text(hints[one.name]), default_text(one), docs.get(one.name, "")


def _choices(choices: dict[type, str]) -> Iterator[str]:
    """Tables of the kinds that settings of a section admit, each class once."""
    done: set[type] = set()
    while left := [kind for kind in choices if kind not in done]:
        kind = left[0]
        done.add(kind)
        yield f"\n### {choices[kind]}: {kind_name(kind)}\n"
        yield summary(kind)
        yield table("setting", list(_rows(kind, f"{choices[kind]}.", choices)))


def _rows(kind: type, prefix: str, choices: dict[type, str]) -> Iterator[Row]:
    """A row for each setting; a nested class without alternatives is laid flat."""
    hints, docs = typing.get_type_hints(kind), field_meanings(kind)
    for one in fields(kind):
        name, hint = prefix + one.name, hints[one.name]
        if one.name == "kind":
            continue
        nested = alternatives(hint)
        if nested == [hint]:
            yield from _rows(nested[0], f"{name}.", choices)
            continue
        for choice in nested:
            choices.setdefault(choice, name)
        shown = " or ".join(map(kind_name, nested)) if nested else type_text(hint)
        yield name, shown, default_text(one), docs.get(one.name, "")
