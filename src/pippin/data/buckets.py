# SPDX-License-Identifier: Apache-2.0
"""Aspect-ratio buckets: sizes of training images, and the bucket of each image.

With resolution R, step m and ratio r = height / width, the sides of a bucket are the multiples of
m nearest to

    height = R sqrt(r)        width = R / sqrt(r)

so all buckets have about R^2 pixels. An image belongs to the bucket with the nearest log aspect
ratio. (NovelAI's bucketing of Stable Diffusion, 2022, and the table of PixArt-alpha's multi-scale
training, Chen et al. 2023, are lists of such sizes.)

This module does not import torch, because configurations import it.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from pippin.config import ConfigError
from pippin.control import CONTROL_FIELDS, Size

BUCKET_STEP = 16
"""Default step of bucket sides: an autoencoder factor of 8 times a patch size of 2."""


@lru_cache(maxsize=64)
def bucket_sizes(resolution: int, ratios: tuple[float, ...], step: int) -> tuple[Size, ...]:
    """(height, width) in pixels of each ratio's bucket, in the order of the ratios.

    Args:
        resolution: R.
        ratios: height / width of each bucket.
        step: m; the smallest side.
    """
    return tuple(
        Size(
            max(1, round(resolution * math.sqrt(ratio) / step)) * step,
            max(1, round(resolution / math.sqrt(ratio) / step)) * step,
        )
        for ratio in ratios
    )


def nearest_bucket(sizes: tuple[Size, ...], original_size: Size) -> Size:
    """Bucket of an image; the wider one of two at equal distance.

    Args:
        sizes: by increasing ratio.
        original_size: size of the image, in pixels.
    """
    ratio = original_size.height / original_size.width
    return sizes[bisect_left(_boundaries(sizes), ratio)]


@lru_cache(maxsize=64)
def _boundaries(sizes: tuple[Size, ...]) -> Sequence[float]:
    """Geometric means of neighbouring ratios."""
    ratios = [size.height / size.width for size in sizes]
    return [math.sqrt(first * second) for first, second in pairwise(ratios)]


def size_name(size: Size) -> str:
    """HEIGHTxWIDTH, as in ``sampling.size``."""
    return f"{size.height}x{size.width}"


def check_ratios(resolution: int, ratios: tuple[float, ...], step: int) -> None:
    """Reject invalid ratios, and ratios that give the same bucket. No ratios means squares.

    Raises:
        ConfigError: with the setting of ``data``, the given and the allowed values.
    """
    if not ratios:
        if step != BUCKET_STEP:
            raise ConfigError(
                f"data.bucket_step {step} has no effect without data.aspect_ratios: give ratios, "
                "or remove it"
            )
        return
    low, high = CONTROL_FIELDS["aspect_ratio"].low, CONTROL_FIELDS["aspect_ratio"].high
    ordered = all(first < second for first, second in pairwise(ratios))
    if not ordered or not all(low <= ratio <= high for ratio in ratios):
        raise ConfigError(
            f"data.aspect_ratios must be heights over widths from {low:g} to {high:g} in "
            f"increasing order, each once; got {list(ratios)}"
        )
    if step < 1 or resolution % step:
        raise ConfigError(
            "data.bucket_step must be 1 or more and, with data.aspect_ratios, divide "
            "data.resolution, so that ratio 1 is the square that is evaluated; got "
            f"{step} and {resolution}"
        )
    buckets = zip(ratios, bucket_sizes(resolution, ratios, step), strict=True)
    for (first, size), (second, other) in pairwise(buckets):
        if size == other:
            raise ConfigError(
                f"data.aspect_ratios {first:g} and {second:g} give the same bucket, "
                f"{size_name(size)}, at data.resolution {resolution} with data.bucket_step "
                f"{step}: remove one of them, or use a smaller step"
            )
