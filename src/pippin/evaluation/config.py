# SPDX-License-Identifier: Apache-2.0
"""Configuration of evaluation."""

from dataclasses import dataclass, field
from typing import Literal

from pippin.config import NOT_PROTOCOL, Config


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Config):
    """What is measured, on how many images, against which reference."""

    num_samples: int = 1000
    features: Literal["efflite0"] = "efflite0"
    """efflite0: EfficientNet-lite0 trained on ImageNet, 1280 pooled features."""
    input_size: int = 128
    """Images are resized (bilinear, antialiased) to this side before features are taken."""
    kid_subsets: int = 50
    kid_subset_size: int = 200
    neighbours: int = 5
    """k of precision, recall, density and coverage."""
    loss_log_snrs: tuple[float, ...] = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
    """The fixed grid of the held-out denoising loss."""
    drift_pairs: int = 64
    """Seeds of control drift and effect, for each control."""
    seed: int = 0
    """Of noise, subsets and labels."""
    batch_size: int = field(default=64, metadata=NOT_PROTOCOL)
