# SPDX-License-Identifier: Apache-2.0
"""The look of a view: colour jitter, grain and JPEG, each with what control records of it.

Applied to images of the training size, so that a look means the same whatever the source was.
"""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional

from pippin.control import ColourJitter, Look
from pippin.data.config import LookLaw
from pippin.data.tie import FREE, Tie
from pippin.film_grain import add_grain

CLEAN = Look()


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
    compressed, place = (tie("jpeg", one) for one in drawn[3:].tolist())
    grainy, strength = (tie("grain", one) for one in torch.rand(2, generator=draws).tolist())
    grain = float(torch.tensor(strength) * law.grain_largest)
    quality = law.jpeg_smallest + int(place * (law.jpeg_largest - law.jpeg_smallest + 1))
    return Look(
        colour_jitter=ColourJitter(*factors.tolist()),
        jpeg_quality=quality if compressed < law.jpeg_share else CLEAN.jpeg_quality,
        grain=grain if grainy < law.grain_share else CLEAN.grain,
    )


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
