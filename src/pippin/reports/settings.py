# SPDX-License-Identifier: Apache-2.0
"""Settings and initial weights of a study's arms, for its report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pippin.config import ConfigError
from pippin.recipes.recipe import Recipe, known_patches_per_side, patches_per_side
from pippin.reports.report_source import Source
from pippin.runs.folder import STUDY_RUN_PREFIX
from pippin.runs.plan_met import plan_met_rows, read_plan_met
from pippin.studies.declaration import Declaration, flat
from pippin.studies.fairness import covered


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The values of one setting in the order of arms; a single value if all are equal."""

    path: str
    values: tuple[str, ...]
    axis: str = ""
    """Name of the declared axis of this setting; empty without an axis."""
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


def plan_met(source: Source) -> dict[str, list[Setting]]:
    """Planned against measured quantities of a single run as a group; empty if none are kept."""
    met = None if source.is_study or not source.runs else read_plan_met(source.runs[0].folder)
    if met is None:
        return {}
    rows = plan_met_rows(met)
    return {"plan met": [Setting(path=name, values=(text,)) for name, text in rows]}


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
    return Setting(
        path=path,
        values=texts[:1] if equal else texts,
        axis=", ".join(axes),
        mark="not declared" if not equal and not axes else "",
    )


SETTING = "init.run"
BEFORE = "measure.model.images_before"
"""Entry of a row's protocol with the number of images that the initial weights were trained on."""


def starting_point(source: Source) -> str:
    """One sentence where an arm continues from trained weights; empty where none does.

    The setting ``init.run`` names the weights. Their number of training images is known once the
    arm has been measured.
    """
    settings = source.declaration.settings()
    starts = {arm: _start(arm, values, source) for arm, values in settings.items()}
    if not any(starts.values()):
        return ""
    budgets = {values.get("train.images") for values in settings.values()}
    counts = sorted(budget for budget in budgets if isinstance(budget, int))
    here = f"{' or '.join(f'{count:,}' for count in counts) or 'an unknown number of'} images here"
    return f"{_origins(starts)}; {here}{_totals(source.declaration)}"


def _totals(declared: Declaration) -> str:
    """The training of every arm including its starts, in image tokens, because an image at half
    the resolution has a quarter of the tokens.

    Empty if weights come from outside the study, if the declaration cannot be read any more, or
    if the latent size is unknown.
    """
    runs = {_run(recipe) for recipe in (*declared.arms.values(), *declared.starts.values())} - {
        None
    }
    if not runs <= {f"{STUDY_RUN_PREFIX}{name}" for name in declared.starts}:
        return ""
    try:
        tokens = _tokens(declared)
    except ConfigError:  # of a version that had other settings
        return ""
    if tokens is None:
        return ""
    lowest, highest = min(tokens.values()), max(tokens.values())
    if highest - lowest < 1e-3 * highest:
        return f"; {highest / 1e6:.3g} million image tokens in every arm, starts included"
    each = ", ".join(f"{arm} {count / 1e6:.3g}" for arm, count in tokens.items())
    return f"; million image tokens, starts included: {each}"


def _run(recipe: Mapping[str, Any]) -> str | None:
    """The run whose weights initialise a declared recipe."""
    run = dict(flat(recipe)).get(SETTING)
    return str(run) if run else None


def _tokens(declared: Declaration) -> dict[str, int] | None:
    """Image tokens of every arm including its starts; None if the downsampling factor of an
    autoencoder is unknown."""
    recipes = {name: Recipe.from_dict(recipe) for name, recipe in declared.arms.items()}
    starts = {name: Recipe.from_dict(recipe) for name, recipe in declared.starts.items()}
    sides = [known_patches_per_side(recipe) for recipe in (*recipes.values(), *starts.values())]
    if None in sides:
        return None

    def tokens(recipe: Recipe) -> int:
        run = recipe.init.run
        before = tokens(starts[run.removeprefix(STUDY_RUN_PREFIX)]) if run else 0
        return before + recipe.train.images * patches_per_side(recipe) ** 2

    return {arm: tokens(recipe) for arm, recipe in recipes.items()}


def _origins(starts: dict[str, str]) -> str:
    texts = list(starts.values())
    if not all(texts):
        return _each({arm: text or "from initial weights" for arm, text in starts.items()})
    if len(set(texts)) > 1:
        return f"each arm continues from its own checkpoint: {_each(starts)}"
    return f"{'continues' if len(texts) == 1 else 'all arms continue'} from {texts[0]}"


def _each(starts: dict[str, str]) -> str:
    return "; ".join(f"{arm}: {start}" for arm, start in starts.items())


def _start(arm: str, settings: dict[str, Any], source: Source) -> str:
    """``MODEL, N images before``; empty if the arm is initialised from its seed."""
    model = settings.get(SETTING)
    if not model:
        return ""
    counts = {row.protocol.get(BEFORE) for row in source.results.rows if row.arm == arm}
    before = sorted(count for count in counts if isinstance(count, int) and count)
    return f"{model}, {before[0]:,} images before" if before else str(model)
