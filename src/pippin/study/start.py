# SPDX-License-Identifier: Apache-2.0
"""Where the arms of a study start from: their seed, or trained weights."""

from collections.abc import Mapping
from typing import Any

from pippin.config import ConfigError
from pippin.recipes.latents import known_patches_a_side, patches_a_side
from pippin.recipes.recipe import Recipe
from pippin.run.folder import START
from pippin.study.declaration import Declaration, flat
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
    return f"{_origins(starts)}; {here}{_totals(source.declaration)}"


def _totals(declared: Declaration) -> str:
    """What training all arms had together with what they start from, in image tokens, because an
    image at half the side has a quarter of them. Empty where a start is none of the study's own,
    and where a declaration cannot be read any more or its latents are not known."""
    runs = {_run(one) for one in (*declared.arms.values(), *declared.starts.values())} - {None}
    if not runs <= {f"{START}{name}" for name in declared.starts}:
        return ""
    try:
        found = _tokens(declared)
    except ConfigError:  # of a version that had other settings
        return ""
    if found is None:
        return ""
    lowest, highest = min(found.values()), max(found.values())
    if highest - lowest < 1e-3 * highest:
        return f"; {highest / 1e6:.3g} million image tokens in every arm, starts included"
    each = ", ".join(f"{arm} {count / 1e6:.3g}" for arm, count in found.items())
    return f"; million image tokens, starts included: {each}"


def _run(recipe: Mapping[str, Any]) -> str | None:
    """What a declared recipe starts from."""
    run = dict(flat(recipe)).get(SETTING)
    return str(run) if run else None


def _tokens(declared: Declaration) -> dict[str, int] | None:
    """Image tokens of every arm and all that it descends from; None where an autoencoder's factor
    is not known."""
    recipes = {name: Recipe.from_dict(one) for name, one in declared.arms.items()}
    starts = {name: Recipe.from_dict(one) for name, one in declared.starts.items()}
    sides = [known_patches_a_side(one) for one in (*recipes.values(), *starts.values())]
    if None in sides:
        return None

    def tokens(recipe: Recipe) -> int:
        run = recipe.init.run
        before = tokens(starts[run.removeprefix(START)]) if run else 0
        return before + recipe.train.images * patches_a_side(recipe) ** 2

    return {arm: tokens(one) for arm, one in recipes.items()}


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
