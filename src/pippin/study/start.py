# SPDX-License-Identifier: Apache-2.0
"""Where the arms of a study start from: their seed, or trained weights."""

from typing import Any

from pippin.recipes.latents import patches_a_side
from pippin.recipes.recipe import Recipe
from pippin.run.folder import START
from pippin.study.declaration import Declaration
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
    """What training all arms had together with what they start from, where the study trains that
    itself: in image tokens, because an image at half the side has a quarter of them."""
    recipes = {name: Recipe.from_dict(one) for name, one in declared.arms.items()}
    starts = {name: Recipe.from_dict(one) for name, one in declared.starts.items()}

    def tokens(recipe: Recipe) -> int:
        run = recipe.init.run
        before = tokens(starts[run.removeprefix(START)]) if run else 0
        return before + recipe.train.images * patches_a_side(recipe) ** 2

    runs = [one.init.run for one in (*recipes.values(), *starts.values()) if one.init.run]
    if not all(run.startswith(START) for run in runs):
        return ""
    found = [tokens(one) / 1e6 for one in recipes.values()]
    if max(found) - min(found) < 1e-3 * max(found):
        return f"; {found[0]:.3g} million image tokens in every arm, starts included"
    each = ", ".join(f"{arm} {one:.3g}" for arm, one in zip(recipes, found, strict=True))
    return f"; million image tokens, starts included: {each}"


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
