# SPDX-License-Identifier: Apache-2.0
"""Resolution of the paths in a recipe.

Relative paths refer to the working directory of the command. A run records the absolute path of
each of its settings, so that it can be resumed, sampled and evaluated from any folder. The recipe
and its fingerprint keep the paths as given.
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
"""Settings of folders that are created where they are missing."""
READ = (
    DATA,
    AUTOENCODER,
    "init.run",
    *(f"evaluation.{name}" for name in ("reference", "clip", "inception", "dinov2", "lpips")),
)
"""Settings of files or folders; all but the data may also name a model of the hub or package."""
SHIPPED_PREFIX = "pippin/"
"""Prefix of the names of shipped models, which are not paths."""


def path_settings(recipe: Recipe) -> dict[str, str]:
    """Setting -> path or name, of all settings that may hold a path; ``text.source`` has one entry
    per encoder, as ``text.source.0``."""
    settings = {}
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
            settings[setting] = value
    sources = enumerate(recipe.text.source)
    return settings | {
        f"{TEXT}.{index}": source
        for index, source in sources
        if not source.startswith(SHIPPED_PREFIX)
    }


def resolved_paths(recipe: Recipe) -> dict[str, str]:
    """Setting -> absolute path, of all paths that exist from the working directory."""
    return {
        setting: os.path.abspath(value)
        for setting, value in path_settings(recipe).items()
        if setting in WRITTEN or Path(value).exists()
    }


def locate(recipe: Recipe, *places: Mapping[str, str]) -> Recipe:
    """Replace each path of a recipe by the first of its recorded paths that exists.

    Args:
        recipe: as recorded or given.
        places: setting -> path, in order of precedence; a setting without an existing path stays
            as given.
    """
    for setting, value in path_settings(recipe).items():
        usable = _is_writable if setting in WRITTEN else os.path.exists
        for paths in places:
            if setting in paths and usable(paths[setting]):
                value = paths[setting]
                break
        recipe = _put(recipe, setting, value)
    return recipe


def with_data_path(recipe: Recipe, path: str | None) -> Recipe:
    """The recipe with another folder of images; None = unchanged.

    Raises:
        ConfigError: the recipe has no folder of images.
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
    """The recorded paths whose setting is the same in both recipes."""
    now, before = path_settings(recipe), path_settings(recorded)
    return {name: path for name, path in places.items() if now.get(name) == before.get(name)}


def _put(recipe: Recipe, setting: str, value: str) -> Recipe:
    if not setting.startswith(f"{TEXT}."):
        return replace_at(recipe, setting, value)
    index = int(setting.rpartition(".")[2])
    sources = recipe.text.source
    return replace_at(recipe, TEXT, (*sources[:index], value, *sources[index + 1 :]))


def _is_writable(folder: str) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.W_OK)
