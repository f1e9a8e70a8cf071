# SPDX-License-Identifier: Apache-2.0
"""The reference page of the command line, read from the classes behind the verbs."""

import contextlib
import importlib
import io
import re
import typing
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from types import ModuleType
from typing import Any

import tyro
from settings import alternatives, default_text, summary, table, type_text

from pippin.cli.main import VERBS, main
from pippin.cli.parsing.option_table import field_meanings
from pippin.cli.parsing.verb_help import EXAMPLES
from pippin.recipes.recipe import Recipe

HEAD = """# Command line

    pippin VERB ...          # or: python -m pippin VERB ...

| verb | does |
| --- | --- |
{verbs}

`pippin VERB --help` prints the options of a verb. For verbs that take a recipe, a run or a folder
it prints the common ones in groups, and `--help-all` prints all. Exit codes: [exit codes and
faults](faults.md). The tables are generated from the code. An option `--data.*` stands for all
settings of that part of the [configuration](configuration.md).

- **Boolean options** need no value: `--resume` is `--resume True`, and `--no-resume` is
  `--resume False`. Nested ones are negated as `--no-train.compile`.
- **`--config FILE`** takes the place of `RECIPE` in `train`, `show`, `fetch`, `plan`, `bench` and
  `data prepare`. The file is YAML or JSON, such as the `config.json` of a run;
  `pippin show RECIPE --yaml > FILE.yaml` writes one. Options override the file, and an unknown
  setting in it is refused with the nearest name.
- **`--quiet`** hides progress. Results, notes and errors are still printed.
- **`--verbose`** shows more: a line of training for every line of `log.jsonl`, and the header and
  the events of a training on a terminal too.
- **`--offline`**, or `PIPPIN_OFFLINE=1`, turns off downloads for any verb:
  [offline mode](../guides/offline-clusters.md#offline-mode). `pippin fetch` brings what it needs.
- **`--text-encoder NAME`**, for verbs that take a recipe, changes the text encoder or makes a text
  recipe of any other: [text encoders](text.md#encoders).
- **`--import MODULE`** first imports a module that registers denoisers, conditioners or recipes of
  your own; it may be repeated: [extend pippin](../guides/extend.md#from-the-command-line).
- **Completion** of verbs, recipes and options: [completion](#completion).
"""
Row = tuple[str, str, str, str]
PARTS = {
    kind: name
    for name, hint in typing.get_type_hints(Recipe).items()
    for kind in alternatives(hint)
}
"""The classes of the recipe tree, and the part that each is."""


def cli_page() -> str:
    """All verbs, each with the options of its commands."""
    rows = "\n".join(f"| [`{verb}`](#{verb}) | {text} |" for verb, text in VERBS.items())
    parts = [HEAD.format(verbs=rows)]
    for verb, text in VERBS.items():
        module = importlib.import_module(f"pippin.cli.{verb}")
        parts.append(f"\n## {verb}\n\n{text[:1].upper()}{text[1:]}.\n")
        usage = getattr(module, "USAGE", None) or _printed_usage(verb)
        parts.append("```text\n" + _without_lists(usage) + "\n```\n")
        parts.append("```bash\n" + "\n".join(EXAMPLES[verb]) + "\n```\n")
        for command in _commands(module):
            parts += [summary(command), table("option", list(_rows(command, "")))]
    return "\n".join(parts)


def _printed_usage(verb: str) -> str:
    """The first paragraph of the help of a verb."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([verb, "--help"])
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue()).strip().partition("\n\n")[0]


def _without_lists(usage: str) -> str:
    """Leave out the lines that a command fills with lists of recipes or devices."""
    lines = usage.splitlines()
    return "\n".join(line for line in lines if not re.search(r"\{\w+\}", line)).strip()


def _commands(module: ModuleType) -> list[Any]:
    """The classes of a verb's commands, in the order of the file."""
    named = [
        one
        for name, one in vars(module).items()
        if name.endswith("Command") and not name.startswith("_") and is_dataclass(one)
    ]
    if hasattr(module, "recaption"):
        named += _commands(module.recaption)
    return named


def _rows(kind: type, prefix: str) -> Iterator[Row]:
    hints = typing.get_type_hints(kind, include_extras=True)
    docs = field_meanings(kind)
    for one in fields(kind):
        yield from _row(one, hints[one.name], prefix, docs.get(one.name, ""))


def _row(one: Field[Any], hint: Any, prefix: str, text: str) -> Iterator[Row]:
    """A row for a plain option; a class of options is laid flat, a part of a recipe is linked."""
    extras = getattr(hint, "__metadata__", ())
    bare = typing.get_args(hint)[0] if extras else hint
    renamed = [extra.name for extra in extras if getattr(extra, "name", None) is not None]
    name = (renamed[0] if renamed else one.name).replace("_", "-")
    nested = alternatives(bare)
    part = Recipe if bare is Recipe else next((kind for kind in nested if kind in PARTS), None)
    if part is not None:
        place = "" if part is Recipe else f"#{PARTS[part]}"
        linked = f"[settings](configuration.md{place})"
        yield f"--{prefix}{name}.*" if name else "--*", linked, "the recipe's", text
    elif len(nested) == 1:
        yield from _rows(nested[0], f"{prefix}{name}." if name else prefix)
    else:
        positional = tyro.conf.Positional in extras
        option = one.name.upper() if positional else f"--{prefix}{name}"
        yield option, type_text(bare), default_text(one), text
