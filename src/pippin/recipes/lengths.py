# SPDX-License-Identifier: Apache-2.0
"""Lengths in images of recipes that follow papers, which count in steps."""

import math
from dataclasses import replace

from pippin.training.config import ImagesHalfLife, TrainConfig


def half_life(decay: float, batch_size: int) -> ImagesHalfLife:
    """The EMA half-life of a decay for each step."""
    return ImagesHalfLife(images=round(math.log(2) / -math.log(decay) * batch_size))


def rarely(train: TrainConfig) -> TrainConfig:
    """Validation, previews and checkpoints as seldom as a long run at a large batch wants them:
    at the intervals that small runs have, they would take longer than the training."""
    return replace(
        train,
        validate_every=5_000 * train.batch_size,
        preview_every=10_000 * train.batch_size,
        checkpoint_every=2_500 * train.batch_size,
    )
