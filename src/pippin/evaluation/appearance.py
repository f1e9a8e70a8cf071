# SPDX-License-Identifier: Apache-2.0
"""What control values do to an image, in numbers: detail, mirroring, place."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate
from torchvision.transforms.v2 import functional

from pippin.types import Images

ROUNDING_VARIANCE = 1 / 12
"""Of an uint8 pixel: the energy below which detail cannot be told from rounding."""


def blur_to(images: Images, side: int) -> Images:
    """Keep the detail that fits into ``side`` x ``side`` pixels: resized down, and back up.

    Bicubic, antialiased. Images that are no larger pass unchanged.
    """
    full = images.shape[-2:]
    if side >= max(full):
        return images
    small = interpolate(images.float(), size=(side, side), mode="bicubic", antialias=True)
    back = interpolate(small, size=tuple(full), mode="bicubic", antialias=True)
    return back.round().clamp(0, 255).to(torch.uint8)


def mirror(images: Images) -> Images:
    """Left-right."""
    return images.flip(-1)


def jpeg(images: Images, quality: int) -> Images:
    """Compressed as JPEG and read again."""
    return functional.jpeg(images.cpu(), quality).to(images.device)


def brighten(images: Images, factor: float) -> Images:
    """Every value multiplied, cut to 255."""
    return functional.adjust_brightness(images, factor)


def log_sharpness(images: Images, side: int) -> Float[Tensor, " batch"]:
    """log of the share of an image's energy that does not fit into ``side`` pixels.

    The image is its mean over the channels, less its mean. With P(u, v) the squared modulus of
    its two-dimensional discrete Fourier transform, u and v in cycles per image,

        log [ (sum of P where |u| or |v| > side / 2, + r) / (sum of all P, + r) ],

    r = n^2 / 12 for n pixels: the energy that rounding to 8 bits leaves. 0 at the most.
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


def grain_level(images: Images, cell: int = 2) -> Float[Tensor, " batch"]:
    """Standard deviation of the noise of an image's cells, in levels of 255.

    Grey cells of ``cell`` x ``cell`` pixels are averaged, and the difference of two Laplacians is
    taken of them, to which a smooth image answers with 0 and white noise of deviation s with one
    of 6 s:  sqrt(pi / 2) / 6 times the mean amount (Immerkaer 1996). Edges count too, so read the
    difference between two images of one picture.
    """
    grey = avg_pool2d(images.double().mean(1, keepdim=True), cell)
    mask = grey.new_tensor([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])[None, None]
    answers = conv2d(grey, mask).abs().flatten(1)
    return answers.mean(1) * math.sqrt(math.pi / 2) / 6


def mass_centre(images: Images) -> Float[Tensor, "batch 2"]:
    """(row, column) of the centre of what is not white, in shares of the side.

    A pixel weighs 1 - min(red, green, blue) / 255; a wholly white image has its centre at 0.5.
    """
    weight = 1 - images.double().amin(1) / 255  # (batch, height, width)
    total = weight.sum((1, 2))
    height, width = weight.shape[-2:]
    rows = (torch.arange(height, device=weight.device) + 0.5) / height
    columns = (torch.arange(width, device=weight.device) + 0.5) / width
    row, column = (weight.sum(2) * rows).sum(1), (weight.sum(1) * columns).sum(1)
    centre = torch.stack([row, column], 1) / total.clamp(min=1e-9)[:, None]
    return torch.where(total[:, None] > 0, centre, 0.5)
