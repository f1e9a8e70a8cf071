# SPDX-License-Identifier: Apache-2.0
"""Where the arms of a study start from, as their settings say: nothing, or a checkpoint."""

from typing import Any

from pippin.study.declaration import Declaration

_SETTINGS = "init."


def starting_point(declaration: Declaration) -> str:
    """One sentence where an arm continues from a checkpoint; empty where all start from nothing.

    Read from the settings below ``init.`` whatever else stands there: ``init.source`` names the
    checkpoint, and a whole number whose name holds "images" is what it had seen before.
    """
    settings = declaration.settings()
    starts = {arm: _start(values) for arm, values in settings.items()}
    found = {arm: start for arm, start in starts.items() if start}
    if not found:
        return ""
    budgets = [values.get("train.images") for values in settings.values()]
    known = sorted({int(one) for one in budgets if _whole(one)})
    here = f"{' or '.join(f'{one:,}' for one in known) or 'an unknown number of'} images here"
    texts = set(found.values())
    if len(found) == len(starts) == 1:
        return f"continues from {next(iter(texts))}; {here}"
    if len(found) < len(starts):
        rest = [arm for arm in starts if arm not in found]
        return f"{_each(found)}; {', '.join(rest)}: from initial weights; {here}"
    if len(texts) == 1:
        return f"all arms continue from {next(iter(texts))}; {here}"
    return f"each arm continues from its own checkpoint: {_each(found)}; {here}"


def _each(found: dict[str, str]) -> str:
    return "; ".join(f"{arm}: {start}" for arm, start in found.items())


def _start(values: dict[str, Any]) -> str:
    """``SOURCE, N images before``; empty where no setting says so."""
    mine = {path: value for path, value in values.items() if path.startswith(_SETTINGS)}
    source = mine.get(f"{_SETTINGS}source")
    if not source:
        return ""
    before = [value for path, value in mine.items() if "images" in path and _whole(value)]
    return f"{source}, {before[0]:,} images before" if before else str(source)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
