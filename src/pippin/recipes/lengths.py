# SPDX-License-Identifier: Apache-2.0
"""Conversion of lengths in steps, as in papers, to lengths in images."""

import math
from dataclasses import replace

from pippin.training.config import ImagesHalfLife, TrainConfig


def half_life(decay: float, batch_size: int) -> ImagesHalfLife:
    """EMA half-life in images of a decay per step."""
    return ImagesHalfLife(images=round(math.log(2) / -math.log(decay) * batch_size))


def with_long_intervals(train: TrainConfig) -> TrainConfig:
    """Settings with intervals of validation, previews and checkpoints for a long run at a large
    batch size: at the intervals of small runs they would take longer than the training."""
    return replace(
        train,
        validate_every=5_000 * train.batch_size,
        preview_every=10_000 * train.batch_size,
        checkpoint_every=2_500 * train.batch_size,
    )
