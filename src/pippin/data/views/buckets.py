# SPDX-License-Identifier: Apache-2.0
"""Aspect-ratio buckets: sizes, the bucket of each image, the bucket of each step.

With resolution R, step m and ratio r = height / width, the sides of a bucket are the multiples of
m nearest to

    height = R sqrt(r)        width = R / sqrt(r)

so all buckets have about R^2 pixels. An image belongs to the bucket with the nearest log aspect
ratio. (NovelAI's bucketing of Stable Diffusion, 2022, and the table of PixArt-alpha's multi-scale
training, Chen et al. 2023, are lists of such sizes.)

Buckets take turns in proportion to their numbers of images: with n_b images of N, bucket b has
had s n_b / N turns after s steps, with an error below one. Turn j of a bucket is released at step
floor(j N / n_b) and has its deadline at step ceil((j + 1) N / n_b). Each step takes the released
turn with the earliest deadline. On one machine that order meets every deadline (Baruah et al.
1996, "Proportionate progress"). The schedule uses integers only and repeats after
N / gcd(n_1, n_2, ...) steps, so any step can be computed without earlier rounds.

This module does not import torch, because configurations import it.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count, pairwise
from typing import NamedTuple

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


class BucketTurn(NamedTuple):
    """Turn of a bucket at one step."""

    step: int
    bucket: int
    """Index into the list of buckets."""
    number: int
    """Number of earlier turns of the bucket."""


def bucket_turns(image_counts: Sequence[int], first: int = 0) -> Iterator[BucketTurn]:
    """Infinite iterator over the turns of steps ``first``, ``first`` + 1, ...

    Args:
        image_counts: n_b of each bucket; all positive.
        first: index of the first step, from 0.
    """
    common = math.gcd(*image_counts)
    shares = [n // common for n in image_counts]
    length = sum(shares)
    rounds = first // length
    num_turns = [rounds * share for share in shares]
    waiting = [(rounds * length, bucket) for bucket in range(len(shares))]  # release step, bucket
    urgent: list[tuple[int, int]] = []  # deadline, bucket
    for step in count(rounds * length):
        while waiting and waiting[0][0] <= step:
            _, bucket = heappop(waiting)
            heappush(urgent, (-(-(num_turns[bucket] + 1) * length // shares[bucket]), bucket))
        _, bucket = heappop(urgent)
        if step >= first:
            yield BucketTurn(step, bucket, num_turns[bucket])
        num_turns[bucket] += 1
        heappush(waiting, (num_turns[bucket] * length // shares[bucket], bucket))
