# SPDX-License-Identifier: Apache-2.0
"""Change of pixels by each augmentation that :mod:`pippin.control` declares, and its strength in
an image."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d
from torchvision.transforms.v2 import functional

from pippin.control import ColourJitter
from pippin.rng import generator
from pippin.types import Images

GRAIN_CELL = 2
"""Side in pixels of a grain cell: an autoencoder of factor 4 removes finer noise."""
ROUNDING_VARIANCE = 1 / 12
"""Rounding variance of a uint8 pixel: detail of less energy cannot be told from rounding."""
Pixels = UInt8[Tensor, "*batch 3 height width"]
"""One image or several."""


@dataclass(frozen=True, kw_only=True)
class PixelChange:
    """Operation of one augmentation, and the measurement of its strength."""

    apply: Callable[[Any, Any], Any]
    """(image or images, value) -> changed :data:`Pixels`; the clean value is never given."""
    level: Callable[[Images, Any], Float[Tensor, " batch"]]
    """(images, value) -> how strongly each image shows the change by this value, in the unit of
    the field's effect."""
    repeatable: bool = True
    """False for random changes: two images do not become equal by applying them."""


def change_colours(image: Pixels, jitter: ColourJitter) -> Pixels:
    """Multiply brightness, contrast and saturation, in this order."""
    brightness, contrast, saturation = jitter
    if brightness != 1:
        image = functional.adjust_brightness(image, brightness)
    if contrast != 1:
        image = functional.adjust_contrast(image, contrast)
    if saturation != 1:
        image = functional.adjust_saturation(image, saturation)
    return image


def darkness(images: Images, jitter: ColourJitter) -> Float[Tensor, " batch"]:
    """Minus the log of the mean value, at least 1."""
    return -images.double().mean((1, 2, 3)).clamp(min=1).log()


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


def grain_level(images: Images, cell: int = GRAIN_CELL) -> Float[Tensor, " batch"]:
    """Standard deviation of the noise of an image's cells, in levels of 255.

    Grey cells of ``cell`` x ``cell`` pixels are averaged and filtered by the difference of two
    Laplacians. Its response is 0 to a smooth image, and has deviation 6 s to white noise of
    deviation s. The estimate is sqrt(pi / 2) / 6 times the mean absolute response (Immerkaer
    1996). Edges count too, so compare two versions of the same image.
    """
    grey = avg_pool2d(images.double().mean(1, keepdim=True), cell)
    mask = grey.new_tensor([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])[None, None]
    responses = conv2d(grey, mask).abs().flatten(1)
    return responses.mean(1) * math.sqrt(math.pi / 2) / 6


def compress(image: Pixels, quality: int) -> Pixels:
    """Compress as JPEG and decode again, by Pillow: the codec of torchvision is deprecated."""
    images = image.cpu().reshape(-1, *image.shape[-3:])
    changed = torch.stack([_compressed(one, quality) for one in images])
    return changed.view_as(image).to(image.device)


def _compressed(image: UInt8[Tensor, "3 height width"], quality: int) -> Tensor:
    content = BytesIO()
    rows = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    Image.fromarray(rows).save(content, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(content))).permute(2, 0, 1)


def compression_level(images: Images, quality: int) -> Float[Tensor, " batch"]:
    """Minus the log of the mean squared change by compressing again, with the energy of 8-bit
    rounding added: compression changes little in an image that was compressed before."""
    changed = compress(images, quality).double() - images.double()
    return -(changed.square().mean((1, 2, 3)) + ROUNDING_VARIANCE).log()


PIXEL_CHANGES: dict[str, PixelChange] = {
    "colour_jitter": PixelChange(apply=change_colours, level=darkness),
    "grain": PixelChange(
        apply=add_grain, level=lambda images, grain: grain_level(images), repeatable=False
    ),
    "jpeg_quality": PixelChange(apply=compress, level=compression_level),
}
"""Field of :class:`pippin.control.Augmentation` -> its change, in the order of a camera, in which
they are applied."""
