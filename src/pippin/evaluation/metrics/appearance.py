# SPDX-License-Identifier: Apache-2.0
"""Image statistics that control values change: detail, mirroring, position."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from pippin.data.views.pixel_changes import ROUNDING_VARIANCE
from pippin.types import Images


def blur_to(images: Images, side: int) -> Images:
    """Keep the detail that fits into ``side`` x ``side`` pixels: resize down, and back up.

    Bicubic, antialiased. Images that are not larger pass unchanged.
    """
    full_size = images.shape[-2:]
    if side >= max(full_size):
        return images
    small = interpolate(images.float(), size=(side, side), mode="bicubic", antialias=True)
    restored = interpolate(small, size=tuple(full_size), mode="bicubic", antialias=True)
    return restored.round().clamp(0, 255).to(torch.uint8)


def mirror(images: Images) -> Images:
    """Flip left-right."""
    return images.flip(-1)


def log_sharpness(images: Images, side: int) -> Float[Tensor, " batch"]:
    """Log of the share of an image's energy that does not fit into ``side`` pixels.

    The image is averaged over channels and centred. With P(u, v) the squared modulus of its
    two-dimensional discrete Fourier transform, u and v in cycles per image,

        log [ (sum of P where |u| or |v| > side / 2, + r) / (sum of all P, + r) ],

    r = n^2 / 12 for n pixels: the energy of rounding to 8 bits. At most 0.
    """
    grey = images.double().mean(1)
    grey = grey - grey.mean((1, 2), keepdim=True)
    power = torch.fft.fft2(grey).abs().square()
    height, width = grey.shape[-2:]
    rows = torch.fft.fftfreq(height, 1 / height, device=grey.device).abs()
    columns = torch.fft.fftfreq(width, 1 / width, device=grey.device).abs()
    fine = torch.maximum(rows[:, None], columns[None, :]) > side / 2
    rounding = (height * width) ** 2 * ROUNDING_VARIANCE
    total = power.sum((1, 2)) + rounding
    return ((power * fine).sum((1, 2)) + rounding).log() - total.log()


def mass_centre(images: Images) -> Float[Tensor, "batch 2"]:
    """Centre (row, column) of the non-white pixels, in shares of the side.

    A pixel weighs 1 - min(red, green, blue) / 255; an all-white image has its centre at 0.5.
    """
    weight = 1 - images.double().amin(1) / 255  # (batch, height, width)
    total = weight.sum((1, 2))
    height, width = weight.shape[-2:]
    rows = (torch.arange(height, device=weight.device) + 0.5) / height
    columns = (torch.arange(width, device=weight.device) + 0.5) / width
    row, column = (weight.sum(2) * rows).sum(1), (weight.sum(1) * columns).sum(1)
    centre = torch.stack([row, column], 1) / total.clamp(min=1e-9)[:, None]
    return torch.where(total[:, None] > 0, centre, 0.5)
