# SPDX-License-Identifier: Apache-2.0
"""Environment that holds a distribution's own requirements, and nothing else that is installed."""

import os
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path


def link_requirements(requirements: list[str], folder: Path) -> set[str]:
    """Link the packages of requirements, and of theirs in turn, into a folder for ``PYTHONPATH``.

    ``python -S`` then imports these and no other installed package.

    Args:
        requirements: as pyproject.toml lists them.
        folder: made by the call.

    Returns:
        The names of the distributions.
    """
    folder.mkdir(parents=True)
    linked: set[str] = set()
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        name, extra = waiting.pop()
        match = re.match(r"([\w.-]+)(?:\[([\w,.-]+)\])?", name)
        assert match is not None, name
        key = re.sub(r"[-_.]+", "-", match[1]).lower()
        extras = [*(match[2] or "").split(",")] if match[2] else [extra]
        marks = {f"{key}[{one}]" for one in extras}
        if marks <= linked:
            continue
        try:
            own = distribution(key)
        except PackageNotFoundError:  # for another platform or another Python
            continue
        linked |= marks
        _link(own, folder)
        waiting += [(text, "") for text in own.requires or [] if _applies(text, extras)]
    return {mark.partition("[")[0] for mark in linked}


def _applies(requirement: str, extras: list[str]) -> bool:
    """Whether a requirement belongs to no extra, or to one of these."""
    asked = re.findall(r"extra\s*==\s*['\"]([\w.-]+)['\"]", requirement)
    return not asked or bool(set(asked) & set(extras))


def _link(own: Distribution, folder: Path) -> None:
    """Link the files of a distribution, compiled ones too; folders are made."""
    for file in own.files or []:
        if file.parts[0] == "..":
            continue
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.symlink(file.locate(), target)
