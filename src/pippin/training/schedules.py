# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules as functions of the images seen.

- trapezoid: constant, then linear decay to the floor over the last share of the run.
- cosine: half a cosine from the end of the warm-up to the end of the run (Loshchilov & Hutter
  2017, arXiv 1608.03983, eq. 5, without restarts).
- wsd: warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395), with the decay 1 - sqrt(p) over
  the last share of the run (Hägele et al. 2024, arXiv 2405.18392).

A linear warm-up precedes each of them.
"""

import math

from pippin.training.config import TrainConfig


def learning_rate_factor(config: TrainConfig, seen: float, length: int) -> float:
    """Multiplier of the peak learning rates, from 0 to 1.

    Args:
        config: schedule, warm-up, decay and floor.
        seen: images at which the rate is read.
        length: length of the run in images.
    """
    warmup = seen / config.warmup_images if config.warmup_images else 1.0
    shape = max(0.0, min(1.0, _shape(config, seen, length)))
    return max(0.0, min(warmup, config.lr_floor + (1 - config.lr_floor) * shape))


def _shape(config: TrainConfig, seen: float, length: int) -> float:
    """Decay without floor: 1 before it, 0 at the end of the run; it may lie outside these."""
    if config.lr_schedule == "cosine":
        start = min(config.warmup_images, length)
        progress = (seen - start) / (length - start) if length > start else 0.0
        return (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2
    remaining = 1 - seen / length
    linear = remaining / config.decay_share if config.decay_share else 1.0
    if config.lr_schedule == "trapezoid":
        return linear
    return 1 - math.sqrt(min(1.0, max(0.0, 1 - linear)))
