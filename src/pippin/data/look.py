# SPDX-License-Identifier: Apache-2.0
"""The look of a view: colour jitter, grain and JPEG, each with what control records of it.

Applied to images of the training size, so that a look means the same whatever the source was.
"""

from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional

from pippin.control import ColourJitter, Look
from pippin.data.config import LookLaw
from pippin.data.tie import FREE, Tie
from pippin.film_grain import add_grain

CLEAN = Look()
BELOW_ONE = 1 - 2**-24
"""The largest number that float32 draws can be, so that no quality lies beyond the last."""


def draw_look(law: LookLaw, draws: torch.Generator, tie: Tie = FREE) -> Look:
    """Seven uniform numbers are taken from the generator, whatever the law.

    Factors are float32 numbers, so that a cache records them exactly.

    Args:
        law: of jitter and compression.
        draws: of the view's own stream.
        tie: to the class.
    """
    drawn = torch.rand(5, generator=draws)
    drawn[0] = tie("brightness", float(drawn[0]))
    factors = torch.tensor(1 + law.colour_jitter) ** (2 * drawn[:3] - 1)
    place = _place(tie, "jpeg", drawn[3:], law.jpeg_share)
    strength = _place(tie, "grain", torch.rand(2, generator=draws), law.grain_share)
    quality, grain = CLEAN.jpeg_quality, CLEAN.grain
    if place is not None:
        quality = law.jpeg_smallest + int(place * (law.jpeg_largest - law.jpeg_smallest + 1))
    if strength is not None:
        grain = float(torch.tensor(strength) * law.grain_largest)
    return Look(colour_jitter=ColourJitter(*factors.tolist()), jpeg_quality=quality, grain=grain)


def _place(tie: Tie, dial: Literal["jpeg", "grain"], drawn: Tensor, share: float) -> float | None:
    """How strong a change is, uniform in [0, 1), or None for the others than ``share``.

    Two numbers that were tied to one class score would not be independent: the strength of those
    that are changed would no longer be uniform. A dial above 0 therefore ties one number u, and
    the part of [0, 1] that stands for a change is stretched to the whole: u < share for JPEG,
    whose quality 100 means clean, and u >= 1 - share for grain, so that quality and grain grow
    with the class score.

    Args:
        tie: to the class.
        dial: of the change.
        drawn: two uniform numbers, whether and how strongly; a dial above 0 reads the first.
        share: of the changed.
    """
    whether, strength = drawn.tolist()
    if getattr(tie.dials, dial) == 0:
        return strength if whether < share else None
    first = 0.0 if dial == "jpeg" else 1 - share
    u = tie(dial, whether) - first
    return min(u / share, BELOW_ONE) if 0 <= u < share else None


def apply_look(
    image: UInt8[Tensor, "3 height width"], look: Look
) -> UInt8[Tensor, "3 height width"]:
    """Brightness, contrast, saturation, grain, then JPEG, as a camera would; what is clean leaves
    every bit as it is."""
    brightness, contrast, saturation = look.colour_jitter
    if brightness != 1:
        image = functional.adjust_brightness(image, brightness)
    if contrast != 1:
        image = functional.adjust_contrast(image, contrast)
    if saturation != 1:
        image = functional.adjust_saturation(image, saturation)
    if look.grain != CLEAN.grain:
        image = add_grain(image, look.grain)
    if look.jpeg_quality != CLEAN.jpeg_quality:
        image = functional.jpeg(image, look.jpeg_quality)
    return image
