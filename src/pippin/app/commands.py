# SPDX-License-Identifier: Apache-2.0
"""The ``pippin sample`` commands and the Python program that draw the images of a sheet."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from shlex import quote
from typing import Any, get_type_hints

from pippin.app.play_model import PlayModel
from pippin.app.sheet import Request, Sheet
from pippin.plugins import imported_modules
from pippin.sampling.config import SamplingConfig
from pippin.types import Prompt

BASE = "run.recipe.sampling"
"""Configuration that the Python program changes."""


def sample_commands(models: tuple[PlayModel, ...], sheet: Sheet) -> str:
    """One command for each request. Those of sweeps and grids write into folders of their own."""
    return "\n".join(_command(models[one.model], one, sheet) for one in sheet.requests)


def _command(model: PlayModel, request: Request, sheet: Sheet) -> str:
    words = ["pippin", "sample", quote(model.source)]
    if model.kind != "nothing":
        option = "prompts" if model.kind == "text" else "labels"
        words.append(_option(option, _prompt_text(model, request.prompt)))
    words += ["--seeds", _seeds_text(request.seeds)]
    for path, value in changed_settings(model.sampling, request.config).items():
        words += _setting(path, value)
    if request.label:
        folder = f"{sheet.kind}-{request.model + 1}" if len(_models(sheet)) > 1 else sheet.kind
        words += ["--out", quote(f"{folder}/{_slug(request.label)}")]
    for name in imported_modules():
        words += ["--import", quote(name)]
    return " ".join(words)


def _models(sheet: Sheet) -> set[int]:
    return {request.model for request in sheet.requests}


def _option(name: str, text: str) -> str:
    """An option with a text value, which may begin with a dash."""
    return quote(f"--{name}={text}") if text.startswith("-") else f"--{name} {quote(text)}"


def _setting(path: str, value: Any) -> Iterator[str]:
    """Words of one setting of the sampling configuration; a named tuple has an option a part."""
    if parts := _part_names(path):
        for part, number in zip(parts, value, strict=True):
            yield from _setting(f"{path}.{part}", number)
        return
    name = path.replace("_", "-")
    if isinstance(value, str):
        yield _option(name, value)
        return
    yield f"--{name}"
    yield from map(str, value if isinstance(value, tuple) else (value,))


def _part_names(path: str) -> tuple[str, ...]:
    """Names of the parts of a setting that is declared as a named tuple."""
    kind: Any = SamplingConfig
    for name in path.split("."):
        if hasattr(kind, "_fields"):  # the path of a part
            return ()
        kind = get_type_hints(kind)[name]
    return getattr(kind, "_fields", ())


def _seeds_text(seeds: tuple[int, ...]) -> str:
    """``0:16`` for consecutive seeds, ``7`` for one."""
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}:{seeds[-1] + 1}"


def _slug(label: str) -> str:
    return re.sub(r"[^\w.-]+", "-", label).strip("-")


def _prompt_text(model: PlayModel, prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else model.run.class_names[prompt]


def changed_settings(base: Any, config: Any, prefix: str = "") -> dict[str, Any]:
    """Settings of a tree of dataclasses that differ from a base: dotted path -> value."""
    changed: dict[str, Any] = {}
    for entry in fields(base):
        before, after = getattr(base, entry.name), getattr(config, entry.name)
        path = f"{prefix}{entry.name}"
        if is_dataclass(before) and type(before) is type(after):
            changed |= changed_settings(before, after, f"{path}.")
        elif before != after:
            changed[path] = after
    return changed


def python_program(models: tuple[PlayModel, ...], sheet: Sheet) -> str:
    """A program that draws the sheet; ``images`` maps each request to uint8 (n, 3, H, W)."""
    parts = ["from dataclasses import replace", "", "from pippin import draw, load_run"]
    parts += [f"import {name}" for name in imported_modules()]
    parts += ["", "images = {}"]
    for index in sorted(_models(sheet)):
        model, requests = models[index], sheet.of_model(index)
        parts += ["", f"run = load_run({model.source!r}, {model.run.weights!r})"]
        for request in requests:
            parts += _draw_lines(model, request)
    return "\n".join(parts) + "\n"


def _draw_lines(model: PlayModel, request: Request) -> Iterator[str]:
    """Lines that draw one request."""
    changed = changed_settings(model.run.recipe.sampling, request.config)
    yield f"config = {_replaced(BASE, _nested(changed))}"
    prompt = f"{request.prompt!r}"
    if model.kind == "classes":
        prompt = f"run.label_id({_prompt_text(model, request.prompt)!r})"
    seeds = f"range({request.seeds[0]}, {request.seeds[-1] + 1})"
    key = f"{model.source!r}, {request.label!r}"
    yield f"images[{key}] = draw(run, [{prompt}] * {len(request.seeds)}, {seeds}, config)"


def _nested(changed: Mapping[str, Any]) -> dict[str, Any]:
    """``{"guidance.control_scale": 2}`` as ``{"guidance": {"control_scale": 2}}``."""
    tree: dict[str, Any] = {}
    for path, value in changed.items():
        *parents, name = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = value
    return tree


def _replaced(target: str, changes: Mapping[str, Any]) -> str:
    """``replace(target, name=value, ...)``, nested as the changes are."""
    if not changes:
        return target
    values = (
        f"{name}={_replaced(f'{target}.{name}', value)}"
        if isinstance(value, dict)
        else f"{name}={_literal(f'{target}.{name}', value)}"
        for name, value in changes.items()
    )
    return f"replace({target}, {', '.join(values)})"


def _literal(target: str, value: Any) -> str:
    """The new value of a target as Python code; other named tuples as plain ones."""
    if parts := _part_names(target.removeprefix(f"{BASE}.")):
        values = ", ".join(f"{part}={new!r}" for part, new in zip(parts, value, strict=True))
        return f"{target}._replace({values})"
    return repr(tuple(value) if isinstance(value, tuple) else value)
