# SPDX-License-Identifier: Apache-2.0
"""The settings of a report: those that differ between arms, and all of them."""

import json
from dataclasses import dataclass
from typing import Any

from pippin.study.declaration import Declaration
from pippin.study.fairness import covered


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The values of one setting in the order of arms; a single value if all are equal."""

    path: str
    values: tuple[str, ...]
    title: str
    """Description of the declared axis of this setting; empty without an axis."""
    mark: str = ""
    """A warning; empty for none."""


def differing(declaration: Declaration) -> list[Setting]:
    """The settings whose values differ between arms."""
    return [setting for setting in _settings(declaration) if len(setting.values) > 1]


def grouped(declaration: Declaration) -> dict[str, list[Setting]]:
    """All settings by the first part of their path."""
    groups: dict[str, list[Setting]] = {}
    for setting in _settings(declaration):
        head, _, rest = setting.path.partition(".")
        groups.setdefault(head if rest else "run", []).append(setting)
    return groups


def _settings(declaration: Declaration) -> list[Setting]:
    arms = list(declaration.settings().values())
    paths = dict.fromkeys(path for arm in arms for path in arm)
    return [_setting(declaration, arms, path) for path in paths]


def _setting(declaration: Declaration, arms: list[dict[str, Any]], path: str) -> Setting:
    texts = tuple(json.dumps(arm[path]) if path in arm else "absent" for arm in arms)
    axes = [
        name
        for name, axis in declaration.axes.items()
        if covered(
            path, [setting_path for level in axis.levels.values() for setting_path in level]
        )
    ]
    equal = len(set(texts)) == 1
    titles = [declaration.axes[name].description or name for name in axes]
    return Setting(
        path=path,
        values=texts[:1] if equal else texts,
        title=", ".join(titles),
        mark="not declared" if not equal and not axes else "",
    )
