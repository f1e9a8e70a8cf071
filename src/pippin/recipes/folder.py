# SPDX-License-Identifier: Apache-2.0
"""Recipes on own pictures: ``pippin train folder/NAME --data.path FOLDER``.

They differ from those on the embedded pictures in the data alone, but for the one without
classes.
"""

from dataclasses import replace

from pippin.conditioning.config import NoSemantic
from pippin.data.config import ImagesConfig
from pippin.recipes import openmoji
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import GuidanceConfig


def mmdit_disentangled() -> Recipe:
    """Class by attention, low-level control under a power-cosine gate."""
    return replace(openmoji.mmdit_disentangled(), data=ImagesConfig())


def mmdit_entangled() -> Recipe:
    """Class by modulation, all control constant in time."""
    return replace(openmoji.mmdit_entangled(), data=ImagesConfig())


def mmdit_unconditional() -> Recipe:
    """No classes: for pictures without labels. Without classes there is nothing to guide to."""
    base = mmdit_disentangled()
    return replace(
        base,
        conditioning=replace(base.conditioning, semantic=NoSemantic(), rules={}),
        sampling=replace(base.sampling, guidance=GuidanceConfig()),
    )


def dit_disentangled() -> Recipe:
    """DiT with cross-attention to class tokens."""
    return replace(openmoji.dit_disentangled(), data=ImagesConfig())


def dit_entangled() -> Recipe:
    """DiT with adaLN-zero."""
    return replace(openmoji.dit_entangled(), data=ImagesConfig())
