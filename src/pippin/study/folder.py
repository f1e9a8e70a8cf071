# SPDX-License-Identifier: Apache-2.0
"""The folder of a study: its layout and its declaration.

STUDY/ study.json  results.jsonl  report.html
       runs/ARM-seedS/  config.json  log.jsonl  samples/  drift/  real/drift/
       starts/NAME-seedS/  what arms go on from
"""

from dataclasses import replace
from pathlib import Path

from pippin.config import ConfigError, difference
from pippin.recipes.recipe import Recipe
from pippin.run.folder import RunFolder
from pippin.study.declaration import Declaration
from pippin.study.results import read
from pippin.study.study import Study

_FIXED = (
    *("name", "axes", "combinations", "primary", "companions", "smallest_effect"),
    *("contrasts", "prediction"),
)
"""What a declaration may not change after the first run, beside the recipes."""


def run_name(arm: str, seed: int) -> str:
    """The folder name of one run below ``runs/``."""
    return f"{arm}-seed{seed}"


def declare(study: Study, folder: Path) -> None:
    """Write the folder's ``study.json``, or refuse where it holds something else than this study.

    Seeds may be added later; which ones were declared first stays on record. A folder in which
    nothing has been trained or measured may be declared anew, as after a mistake that failed all
    runs.

    Raises:
        ConfigError: what was declared before, or any setting of an arm, has changed.
    """
    path = folder / "study.json"
    declared = study.declaration()
    if path.exists():
        before = Declaration.load(path)
        try:
            _refuse_change(before, declared, path)
        except ConfigError:
            if not _untouched(folder):
                raise
            (folder / "results.jsonl").unlink(missing_ok=True)  # failures of what was declared
            before = declared
        seeds = tuple(sorted({*before.seeds, *declared.seeds}))
        declared = replace(declared, seeds=seeds, first_seeds=before.first_seeds)
    declared.save(path)


def _untouched(folder: Path) -> bool:
    """Whether no run has a number or a checkpoint, only failures."""
    found = read(folder / "results.jsonl")
    failed = all(one.status == "failed" for one in found.outcomes)
    places = ("runs", "starts")
    trained = any(RunFolder(one).begun for place in places for one in folder.glob(f"{place}/*"))
    return failed and not trained and not found.rows and not found.problems


def _refuse_change(before: Declaration, declared: Declaration, path: Path) -> None:
    """What was declared before the first run stands."""
    if set(before.starts) != set(declared.starts):
        raise ConfigError(
            f"{path} declares the starts {sorted(before.starts)}, this study "
            f"{sorted(declared.starts)}: use another folder"
        )
    for name in _FIXED:
        old, new = getattr(before, name), getattr(declared, name)
        if old != new:
            raise ConfigError(
                f"{path} declares {name} = {old!r}, this study {new!r}; what was declared before "
                "the first run cannot be changed: use another folder"
            )
    old_recipes = before.arms | before.starts
    for arm, recipe in (declared.arms | declared.starts).items():
        changed = difference(Recipe.from_dict(old_recipes[arm]), Recipe.from_dict(recipe))
        if changed:
            lines = "".join(f"\n  {p}: {a!r} there, {b!r} here" for p, (a, b) in changed.items())
            raise ConfigError(
                f"{path} holds runs of {arm!r} under other settings:{lines}\n"
                "numbers of both could not be compared: use another folder"
            )
