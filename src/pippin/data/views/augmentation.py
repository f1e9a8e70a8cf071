# SPDX-License-Identifier: Apache-2.0
"""Augmentation of views, recorded in the control: the values of a view, and their application.

Augmentation applies to images of the training size, so its parameters do not depend on the size
of the source.
"""

from typing import Any, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from pippin.control import CONTROL_FIELDS, Augmentation, ColourJitter
from pippin.data.config import LAW_FIELDS, AugmentationConfig
from pippin.data.views.pixel_changes import PIXEL_CHANGES
from pippin.data.views.size import INDEPENDENT, ClassCopula

CLEAN = Augmentation()
MAX_FLOAT32_UNIFORM = 1 - 2**-24
"""Largest value of a float32 uniform draw, so that no quality exceeds the maximum."""


def draw_augmentation(
    config: AugmentationConfig, generator: torch.Generator, copula: ClassCopula = INDEPENDENT
) -> Augmentation:
    """Draw the augmentation of a view. Takes seven uniform numbers, and then two for each field
    with a declared law, whatever the configuration.

    Factors are float32 numbers, so a cache records them exactly.

    Args:
        config: ranges and shares of augmentations.
        generator: random stream of the view.
        copula: correlation with the class.
    """
    uniforms = torch.rand(5, generator=generator)
    uniforms[0] = copula("brightness", float(uniforms[0]))
    factors = torch.tensor(1 + config.colour_jitter) ** (2 * uniforms[:3] - 1)
    jpeg = _strength(copula, "jpeg", uniforms[3:], config.jpeg_share)
    grain_strength = _strength(
        copula, "grain", torch.rand(2, generator=generator), config.grain_share
    )
    quality, grain = CLEAN.jpeg_quality, CLEAN.grain
    if jpeg is not None:
        quality = config.jpeg_smallest + int(
            jpeg * (config.jpeg_largest - config.jpeg_smallest + 1)
        )
    if grain_strength is not None:
        grain = float(torch.tensor(grain_strength) * config.grain_largest)
    return Augmentation(
        colour_jitter=ColourJitter(*factors.tolist()),
        jpeg_quality=quality,
        grain=grain,
        **_declared_laws(config, generator),
    )


def _declared_laws(config: AugmentationConfig, generator: torch.Generator) -> dict[str, Any]:
    """Values of the fields whose law their declaration states: clean, except in a share of the
    views, where they are uniform between the clean and the strongest value."""
    values: dict[str, Any] = {}
    for name in LAW_FIELDS:
        selector, amount = torch.rand(2, generator=generator).tolist()
        clean, strongest = getattr(CLEAN, name), CONTROL_FIELDS[name].strongest
        assert strongest is not None
        value = float(torch.tensor(clean + amount * (strongest - clean)))
        if selector < config.shares.get(name, 0.0):
            values[name] = round(value) if isinstance(clean, int) else value
    return values


def _strength(
    copula: ClassCopula, control: Literal["jpeg", "grain"], uniforms: Tensor, share: float
) -> float | None:
    """Strength of an augmentation, uniform in [0, 1), for a ``share`` of the images; else None.

    Two numbers that are correlated with one class score are not independent: the strength of
    augmented images would not be uniform. A correlation above 0 therefore applies to one number u.
    The part of [0, 1] that selects an image is rescaled to [0, 1): u < share for JPEG, where
    quality 100 means clean, and u >= 1 - share for grain. Quality and grain then grow with the
    class score.

    Args:
        copula: correlation with the class.
        control: name of the augmentation.
        uniforms: two uniform numbers, for selection and strength; a correlation above 0 uses the
            first only.
        share: share of images that are augmented.
    """
    selector, amount = uniforms.tolist()
    if getattr(copula.correlations, control) == 0:
        return amount if selector < share else None
    low = 0.0 if control == "jpeg" else 1 - share
    u = copula(control, selector) - low
    return min(u / share, MAX_FLOAT32_UNIFORM) if 0 <= u < share else None


def apply_augmentation(
    image: UInt8[Tensor, "3 height width"], augmentation: Augmentation
) -> UInt8[Tensor, "3 height width"]:
    """Apply the changes of :data:`pippin.data.views.pixel_changes.PIXEL_CHANGES` in its order.
    Clean values leave every bit unchanged."""
    for name, change in PIXEL_CHANGES.items():
        value = getattr(augmentation, name)
        if value != getattr(CLEAN, name):
            image = change.apply(image, value)
    return image
