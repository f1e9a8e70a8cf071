# SPDX-License-Identifier: Apache-2.0
"""Recipes for procedural scenes of shapes, whose content is known exactly; they run offline.

They are the recipes for the embedded images with other data, with schedule, prediction and times
of the common protocol (``sd``, noise, uniform), and the small recipes' optimizer (Muon). Latents
are normalised by numbers measured on the images.
"""

from collections.abc import Callable
from dataclasses import replace

from pippin.data.config import CropConfig, ShapesConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.encoders.config import AutoencoderConfig
from pippin.recipes import openmoji
from pippin.recipes.openmoji import in_pixels, with_text
from pippin.recipes.recipe import Recipe

PAIRS: dict[str, tuple[Callable[[], Recipe], Callable[[], Recipe]]] = {
    "mmdit": (openmoji.mmdit_disentangled, openmoji.mmdit_entangled),
    "dit": (openmoji.dit_disentangled, openmoji.dit_entangled),
    "mdtv2": (openmoji.mdtv2_disentangled, openmoji.mdtv2_entangled),
    "pixart": (openmoji.pixart_disentangled, openmoji.pixart_entangled),
    "unet": (openmoji.unet_disentangled, openmoji.unet_entangled),
    "jit": (openmoji.jit_disentangled, openmoji.jit_entangled),
    "ddt": (openmoji.ddt_disentangled, openmoji.ddt_entangled),
}
"""Denoiser -> recipes on OpenMoji, disentangled and entangled."""
AUTOENCODER = "pippin/shapes-f4"
"""Autoencoder of shapes, 37 dB at 64 pixels; OpenMoji's confuses their colours, 22 dB."""
CAPTIONS = {"short": 1.0, "medium": 1.0, "long": 1.0}


def on_shapes(recipe: Recipe) -> Recipe:
    """Class-conditional recipe for scenes of one object, whose class is its shape and colour."""
    return replace(
        recipe,
        data=ShapesConfig(objects=1, crop_law=CropConfig()),
        autoencoder=AutoencoderConfig(source=AUTOENCODER, normalisation="measured"),
        diffusion=DiffusionConfig(),
    )


def with_captions(recipe: Recipe) -> Recipe:
    """Text recipe for scenes of one or two objects, uncropped and unflipped, so that captions are
    true of every training image. Captions of the three lengths are equally frequent."""
    recipe = with_text(recipe)
    return replace(
        recipe,
        data=ShapesConfig(objects=2, label="shape"),
        text=replace(recipe.text, captions=CAPTIONS),
    )


def recipes() -> dict[str, Callable[[], Recipe]]:
    """Recipes by name: disentangled and entangled classes, and text, for each denoiser."""
    builders: dict[str, Callable[[], Recipe]] = {}
    for name, (disentangled, entangled) in PAIRS.items():
        builders[f"shapes/{name}-disentangled"] = _deferred(disentangled, on_shapes)
        builders[f"shapes/{name}-entangled"] = _deferred(entangled, on_shapes)
        builders[f"shapes/{name}-disentangled-text"] = _deferred(
            disentangled, on_shapes, with_captions
        )
    builders["shapes/jit-pixels"] = _deferred(openmoji.jit_pixels, on_shapes, in_pixels)
    return builders


def _deferred(
    build: Callable[[], Recipe], *changes: Callable[[Recipe], Recipe]
) -> Callable[[], Recipe]:
    """Function that builds a recipe and applies the changes."""

    def build_changed() -> Recipe:
        recipe = build()
        for change in changes:
            recipe = change(recipe)
        return recipe

    return build_changed
