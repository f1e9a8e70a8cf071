# SPDX-License-Identifier: Apache-2.0
"""Where the arms of a study start from: their seed, or trained weights."""

from typing import Any

from pippin.study.source import Source

SETTING = "init.run"
BEFORE = "measure.model.images_before"
"""What a row's protocol says of the images that the starting weights descend from."""


def starting_point(source: Source) -> str:
    """One sentence where an arm continues from trained weights; empty where none does.

    The setting ``init.run`` names the weights. How many images they had seen is known once the
    arm has been measured.
    """
    settings = source.declaration.settings()
    starts = {arm: _start(arm, values, source) for arm, values in settings.items()}
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


def _start(arm: str, settings: dict[str, Any], source: Source) -> str:
    """``MODEL, N images before``; empty where the arm starts from its seed."""
    model = settings.get(SETTING)
    if not model:
        return ""
    counts = {row.protocol.get(BEFORE) for row in source.results.rows if row.arm == arm}
    before = sorted(count for count in counts if isinstance(count, int) and count)
    return f"{model}, {before[0]:,} images before" if before else str(model)
