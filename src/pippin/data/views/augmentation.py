# SPDX-License-Identifier: Apache-2.0
"""Augmentation of views: colour jitter, film grain and JPEG, each recorded in the control.

Augmentation applies to images of the training size, so its parameters do not depend on the size
of the source.
"""

import hashlib
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional

from pippin.control import Augmentation, ColourJitter
from pippin.data.config import AugmentationConfig
from pippin.data.views.size import INDEPENDENT, ClassCopula
from pippin.rng import generator

GRAIN_CELL = 2
"""Side in pixels of a grain cell: an autoencoder of factor 4 removes finer noise."""


def add_grain(
    image: UInt8[Tensor, "3 height width"], level: float
) -> UInt8[Tensor, "3 height width"]:
    """Add Gaussian noise, one number for each cell of ``GRAIN_CELL`` pixels and all channels.

    As in film, it is strongest in mid-tones and leaves black and white unchanged: a value v in
    [0, 1] gets 4 v (1 - v) times the noise, so that the mean is preserved and clipping is rare.

    The pattern is keyed by the image's pixels, so replaying a control on its source gives the same
    image. Views with different pixels have different patterns. Views with equal pixels before the
    grain, such as uncropped and unflipped views without jitter, share a pattern and differ only in
    its level.

    Args:
        image: image without grain.
        level: standard deviation at mid-grey, in levels of 255.
    """
    digest = hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()
    height, width = image.shape[1:]
    cells = (1, -(-height // GRAIN_CELL), -(-width // GRAIN_CELL))
    noise = torch.randn(cells, generator=generator("view", "grain", digest)) * level
    for dim in (1, 2):
        noise = noise.repeat_interleave(GRAIN_CELL, dim)
    value = image.float() / 255
    grainy = image + 4 * value * (1 - value) * noise[:, :height, :width]
    return grainy.round().clamp(0, 255).to(torch.uint8)


CLEAN = Augmentation()
MAX_FLOAT32_UNIFORM = 1 - 2**-24
"""Largest value of a float32 uniform draw, so that no quality exceeds the maximum."""


def draw_augmentation(
    config: AugmentationConfig, generator: torch.Generator, copula: ClassCopula = INDEPENDENT
) -> Augmentation:
    """Draw the augmentation of a view. Takes seven uniform numbers, whatever the configuration.

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
        colour_jitter=ColourJitter(*factors.tolist()), jpeg_quality=quality, grain=grain
    )


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
    """Apply brightness, contrast, saturation, grain, then JPEG, in the order of a camera. Clean
    values leave every bit unchanged."""
    brightness, contrast, saturation = augmentation.colour_jitter
    if brightness != 1:
        image = functional.adjust_brightness(image, brightness)
    if contrast != 1:
        image = functional.adjust_contrast(image, contrast)
    if saturation != 1:
        image = functional.adjust_saturation(image, saturation)
    if augmentation.grain != CLEAN.grain:
        image = add_grain(image, augmentation.grain)
    if augmentation.jpeg_quality != CLEAN.jpeg_quality:
        image = functional.jpeg(image, augmentation.jpeg_quality)
    return image
