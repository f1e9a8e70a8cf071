# SPDX-License-Identifier: Apache-2.0
"""Where the paths in a recipe lead.

A relative path is one of the folder in which the command was given. A run records where each of
its paths led, so that it can be resumed, sampled and measured from any folder; the recipe itself
keeps what was given, and so does its fingerprint.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from pippin.config import ConfigError, replace_at
from pippin.data.config import ImagesConfig
from pippin.recipes.recipe import Recipe
from pippin.run.folder import STUDY_RUN_PREFIX

DATA, AUTOENCODER, TEXT = "data.path", "autoencoder.source", "text.source"
WRITTEN = ("data.index_folder", "cache.folder", "text.folder")
"""Folders that are made where they are missing."""
READ = (
    DATA,
    AUTOENCODER,
    "init.run",
    *(f"evaluation.{name}" for name in ("reference", "clip", "inception", "dinov2", "lpips")),
)
"""Files or folders; all but the data may also be names of the hub or of the package."""
SHIPPED_PREFIX = "pippin/"
"""Begins the name of what the package or another one brings: no path."""


def path_settings(recipe: Recipe) -> dict[str, str]:
    """Setting -> path or name, of all settings that may hold a path; ``text.source`` has one for
    each encoder, as ``text.source.0``."""
    found = {}
    for setting in (*WRITTEN, *READ):
        section, _, name = setting.partition(".")
        value = getattr(getattr(recipe, section), name, None)
        if setting == "evaluation.reference" and recipe.evaluation.reference_kind != "file":
            continue
        if (
            isinstance(value, str)
            and value
            and not value.startswith((SHIPPED_PREFIX, STUDY_RUN_PREFIX))
        ):
            found[setting] = value
    sources = enumerate(recipe.text.source)
    return found | {
        f"{TEXT}.{place}": source
        for place, source in sources
        if not source.startswith(SHIPPED_PREFIX)
    }


def resolved_paths(recipe: Recipe) -> dict[str, str]:
    """Setting -> absolute path, of all paths that lead somewhere from the present folder."""
    return {
        setting: os.path.abspath(value)
        for setting, value in path_settings(recipe).items()
        if setting in WRITTEN or Path(value).exists()
    }


def locate(recipe: Recipe, *places: Mapping[str, str]) -> Recipe:
    """The recipe with each path replaced by the first of its places that is there.

    Args:
        recipe: as recorded or given.
        places: setting -> path, in order; what none of them has, or where nothing is any more,
            stays as given, seen from the present folder.
    """
    for setting, value in path_settings(recipe).items():
        usable = _is_writable if setting in WRITTEN else os.path.exists
        for known in places:
            if setting in known and usable(known[setting]):
                value = known[setting]
                break
        recipe = _put(recipe, setting, value)
    return recipe


def with_data_path(recipe: Recipe, path: str | None) -> Recipe:
    """The recipe with its images elsewhere.

    Raises:
        ConfigError: it has no folder of images.
    """
    if path is None:
        return recipe
    if not isinstance(recipe.data, ImagesConfig):
        raise ConfigError(
            f"--data.path {path} has no effect: this model was not trained on a folder of images "
            f"(data.kind {recipe.data.kind}); leave it out"
        )
    return replace_at(recipe, DATA, path)


def unchanged_paths(recipe: Recipe, recorded: Recipe, places: Mapping[str, str]) -> dict[str, str]:
    """Those of the places whose setting is the same in both recipes."""
    now, before = path_settings(recipe), path_settings(recorded)
    return {one: path for one, path in places.items() if now.get(one) == before.get(one)}


def _put(recipe: Recipe, setting: str, value: str) -> Recipe:
    if not setting.startswith(f"{TEXT}."):
        return replace_at(recipe, setting, value)
    place = int(setting.rpartition(".")[2])
    sources = recipe.text.source
    return replace_at(recipe, TEXT, (*sources[:place], value, *sources[place + 1 :]))


def _is_writable(folder: str) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.W_OK)
