# SPDX-License-Identifier: Apache-2.0
"""Recipes on procedural scenes of shapes, whose content is known exactly; they run offline.

They are those on the embedded pictures with other data: schedule, prediction and times of the
common protocol (``sd``, noise, uniform), the small recipes' optimizer (Muon). Latents are
normalised by numbers measured on the images.
"""

from collections.abc import Callable
from dataclasses import replace

from pippin.data.config import CropLaw, ShapesConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.encoders.config import AutoencoderConfig
from pippin.recipes import openmoji
from pippin.recipes.openmoji import with_text
from pippin.recipes.recipe import Recipe

PAIRS: dict[str, tuple[Callable[[], Recipe], Callable[[], Recipe]]] = {
    "mmdit": (openmoji.mmdit_disentangled, openmoji.mmdit_entangled),
    "dit": (openmoji.dit_disentangled, openmoji.dit_entangled),
    "mdtv2": (openmoji.mdtv2_disentangled, openmoji.mdtv2_entangled),
    "pixart": (openmoji.pixart_disentangled, openmoji.pixart_entangled),
    "unet": (openmoji.unet_disentangled, openmoji.unet_entangled),
}
"""Denoiser -> recipes on OpenMoji, disentangled and entangled."""
AUTOENCODER = "pippin/shapes-f4"
"""That of OpenMoji confuses the colours of shapes: 22 dB at 64 pixels; this one has 37 dB."""
CAPTIONS = {"short": 1.0, "medium": 1.0, "long": 1.0}


def on_shapes(recipe: Recipe) -> Recipe:
    """A recipe of classes on scenes of one object, whose class is its shape and colour."""
    return replace(
        recipe,
        data=ShapesConfig(objects=1, crop_law=CropLaw()),
        autoencoder=AutoencoderConfig(source=AUTOENCODER, normalisation="measured"),
        diffusion=DiffusionConfig(),
    )


def with_captions(recipe: Recipe) -> Recipe:
    """A recipe of text on scenes of one or two objects, shown whole and unflipped, so that their
    captions hold for every training image. Captions of the three lengths come equally often."""
    recipe = with_text(recipe)
    return replace(
        recipe,
        data=ShapesConfig(objects=2, label="shape"),
        text=replace(recipe.text, captions=CAPTIONS),
    )


def recipes() -> dict[str, Callable[[], Recipe]]:
    """By name: classes disentangled and entangled, and text, for each denoiser."""
    found: dict[str, Callable[[], Recipe]] = {}
    for name, (disentangled, entangled) in PAIRS.items():
        found[f"shapes/{name}-disentangled"] = _later(disentangled, on_shapes)
        found[f"shapes/{name}-entangled"] = _later(entangled, on_shapes)
        found[f"shapes/{name}-disentangled-text"] = _later(disentangled, on_shapes, with_captions)
    return found


def _later(
    build: Callable[[], Recipe], *changes: Callable[[Recipe], Recipe]
) -> Callable[[], Recipe]:
    """A recipe that is built when it is asked for."""

    def built() -> Recipe:
        recipe = build()
        for change in changes:
            recipe = change(recipe)
        return recipe

    return built
