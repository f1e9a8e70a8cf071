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
    if not any(starts.values()):
        return ""
    budgets = {values.get("train.images") for values in settings.values()}
    known = sorted(one for one in budgets if isinstance(one, int))
    here = f"{' or '.join(f'{one:,}' for one in known) or 'an unknown number of'} images here"
    return f"{_origins(starts)}; {here}"


def _origins(starts: dict[str, str]) -> str:
    texts = list(starts.values())
    if not all(texts):
        return _each({arm: text or "from initial weights" for arm, text in starts.items()})
    if len(set(texts)) > 1:
        return f"each arm continues from its own checkpoint: {_each(starts)}"
    return f"{'continues' if len(texts) == 1 else 'all arms continue'} from {texts[0]}"


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
