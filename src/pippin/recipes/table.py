# SPDX-License-Identifier: Apache-2.0
"""Table of all recipes by name."""

from collections.abc import Callable
from dataclasses import replace

from pippin.config import ConfigError, suggest_names
from pippin.plugins import load_plugins
from pippin.recipes import folder, openmoji, paper, published, shapes
from pippin.recipes.openmoji import with_text
from pippin.recipes.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "openmoji/mmdit-disentangled": openmoji.mmdit_disentangled,
    "openmoji/mmdit-entangled": openmoji.mmdit_entangled,
    "openmoji/mmdit-attention-modulation": openmoji.mmdit_attention_modulation,
    "openmoji/mmdit-sdxl-style": openmoji.mmdit_sdxl_style,
    "openmoji/dit-disentangled": openmoji.dit_disentangled,
    "openmoji/dit-entangled": openmoji.dit_entangled,
    "openmoji/mdtv2-disentangled": openmoji.mdtv2_disentangled,
    "openmoji/mdtv2-entangled": openmoji.mdtv2_entangled,
    "openmoji/pixart-disentangled": openmoji.pixart_disentangled,
    "openmoji/pixart-entangled": openmoji.pixart_entangled,
    "openmoji/unet-disentangled": openmoji.unet_disentangled,
    "openmoji/unet-entangled": openmoji.unet_entangled,
    "openmoji/mmdit-disentangled-text": lambda: with_text(openmoji.mmdit_disentangled()),
    "openmoji/mmdit-disentangled-text-styles": openmoji.mmdit_disentangled_text_styles,
    "openmoji/mmdit-entangled-text": openmoji.mmdit_entangled_text,
    "openmoji/dit-disentangled-text": lambda: with_text(openmoji.dit_disentangled()),
    "openmoji/mdtv2-disentangled-text": lambda: with_text(openmoji.mdtv2_disentangled()),
    "openmoji/pixart-disentangled-text": lambda: with_text(openmoji.pixart_disentangled()),
    "openmoji/unet-disentangled-text": lambda: with_text(openmoji.unet_disentangled()),
    **shapes.recipes(),
    "folder/mmdit-disentangled-text": lambda: with_text(folder.mmdit_disentangled()),
    "folder/mmdit-disentangled": folder.mmdit_disentangled,
    "folder/mmdit-entangled": folder.mmdit_entangled,
    "folder/mmdit-unconditional": folder.mmdit_unconditional,
    "folder/dit-disentangled": folder.dit_disentangled,
    "folder/dit-entangled": folder.dit_entangled,
    "folder/mmdit-b-256": folder.mmdit_b_256,
    "folder/dit-b-256": folder.dit_b_256,
    "published/dit-xl-256": published.dit_xl_256,
    "published/dit-xl-512": published.dit_xl_512,
    "published/mdtv2-xl-256": published.mdtv2_xl_256,
    "published/pixart-xl-256": published.pixart_xl_256,
    "published/pixart-xl-512": published.pixart_xl_512,
    "published/mmdit-sd3-d24-256": published.mmdit_sd3_d24_256,
    "published/ldm-4-imagenet-256": published.ldm_4_imagenet_256,
    **paper.recipes(),
}


def get_recipe(name: str) -> Recipe:
    """Recipe of a name.

    Raises:
        ConfigError: no such recipe; the message suggests similar names.
    """
    if name not in RECIPES:
        load_plugins()
    if name not in RECIPES:
        suggestions = suggest_names(name, RECIPES)
        raise ConfigError(
            f"no recipe {name!r}{suggestions}; `pippin train --help` lists all; type --import "
            "MODULE for the module that adds a recipe of your own"
        )
    return replace(RECIPES[name](), family=name.partition("/")[0])
