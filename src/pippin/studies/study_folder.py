# SPDX-License-Identifier: Apache-2.0
"""The folder of a study: its layout and its declaration.

STUDY/ study.json  results.jsonl  report.html
       runs/ARM-seedS/  config.json  log.jsonl  samples/  drift/  real/drift/
       starts/NAME-seedS/  pre-training runs
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pippin.config import ConfigError, difference
from pippin.recipes.recipe import Recipe
from pippin.runs.folder import RunFolder
from pippin.studies.declaration import Declaration
from pippin.studies.results import read
from pippin.studies.study import Study

_FIXED = (
    *("name", "axes", "combinations", "primary", "companions", "smallest_effect"),
    *("contrasts", "agreements", "prediction"),
)
"""Fields of a declaration that may not change after the first run, besides the recipes."""


def run_name(arm: str, seed: int) -> str:
    """The folder name of one run below ``runs/``."""
    return f"{arm}-seed{seed}"


def declare(study: Study, folder: Path) -> None:
    """Write the folder's ``study.json``, or refuse if it holds another study.

    Seeds may be added later; ``first_seeds`` records those declared first. A folder without any
    checkpoint or result may be declared again, as after a mistake that failed all runs. Otherwise
    the recipes and the command stay those of the first call: settings outside the protocol may
    differ in later calls, and would be untrue for finished runs.

    Raises:
        ConfigError: the declaration or a setting of an arm has changed.
    """
    path = folder / "study.json"
    declared = study.declaration()
    if path.exists():
        before, untouched = Declaration.load(path), _untouched(folder)
        try:
            _refuse_change(before, declared, path)
        except ConfigError:
            if not untouched:
                raise
            (folder / "results.jsonl").unlink(missing_ok=True)  # failures of what was declared
            before = declared
        seeds = tuple(sorted({*before.seeds, *declared.seeds}))
        declared = replace(declared, seeds=seeds, first_seeds=before.first_seeds)
        if not untouched:
            arms, starts = _in_this_version(before.arms), _in_this_version(before.starts)
            declared = replace(declared, arms=arms, starts=starts, reproduce=before.reproduce)
    declared.save(path)


def _in_this_version(recipes: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Recipes as this version records them; settings that an older one lacked have defaults."""
    return {name: Recipe.from_dict(recipe).to_dict() for name, recipe in recipes.items()}


def _untouched(folder: Path) -> bool:
    """True if no run has a result or a checkpoint, only failures."""
    results = read(folder / "results.jsonl")
    failed = all(outcome.status == "failed" for outcome in results.outcomes)
    subfolders = ("runs", "starts")
    trained = any(
        RunFolder(run_folder).has_checkpoints
        for subfolder in subfolders
        for run_folder in folder.glob(f"{subfolder}/*")
    )
    return failed and not trained and not results.rows and not results.problems


def _refuse_change(before: Declaration, declared: Declaration, path: Path) -> None:
    """Refuse changes of the declaration and of the settings of its recipes."""
    if set(before.starts) != set(declared.starts):
        raise ConfigError(
            f"{path} declares the starts {sorted(before.starts)}, this study "
            f"{sorted(declared.starts)}: use another folder"
        )
    for name in _FIXED:
        declared_value, given_value = getattr(before, name), getattr(declared, name)
        if declared_value != given_value:
            raise ConfigError(
                f"{path} declares {name} = {declared_value!r}, this study {given_value!r}; "
                "a declaration cannot be changed after the first run: use another folder"
            )
    old_recipes = before.arms | before.starts
    for arm, recipe in (declared.arms | declared.starts).items():
        changed = difference(Recipe.from_dict(old_recipes[arm]), Recipe.from_dict(recipe))
        if changed:
            lines = "".join(f"\n  {p}: {a!r} there, {b!r} here" for p, (a, b) in changed.items())
            raise ConfigError(
                f"{path} holds runs of {arm!r} under other settings:{lines}\n"
                "their results could not be compared: use another folder"
            )
