# SPDX-License-Identifier: Apache-2.0
"""All recipes by name."""

from collections.abc import Callable

from pippin.config import ConfigError
from pippin.recipes import folder, openmoji
from pippin.recipes.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "openmoji/mmdit-disentangled": openmoji.mmdit_disentangled,
    "openmoji/mmdit-entangled": openmoji.mmdit_entangled,
    "openmoji/dit-disentangled": openmoji.dit_disentangled,
    "openmoji/dit-entangled": openmoji.dit_entangled,
    "folder/mmdit-disentangled": folder.mmdit_disentangled,
    "folder/mmdit-entangled": folder.mmdit_entangled,
    "folder/mmdit-unconditional": folder.mmdit_unconditional,
    "folder/dit-disentangled": folder.dit_disentangled,
    "folder/dit-entangled": folder.dit_entangled,
}


def get_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ConfigError: no such recipe; the message lists them.
    """
    if name not in RECIPES:
        raise ConfigError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    return RECIPES[name]()
