# SPDX-License-Identifier: Apache-2.0
"""Named evaluation presets with all their settings; this module imports no torch."""

from dataclasses import dataclass
from typing import Literal

from pippin.data.config import ImagesConfig
from pippin.evaluation.config import EvaluationConfig

PresetName = Literal["coco-zero-shot"]


@dataclass(frozen=True, kw_only=True)
class ZeroShotPreset:
    """Zero-shot evaluation: samples for the captions of a folder that the model was not trained
    on, against the folder's images.

    Guidance, solver and all other sampling settings are the recipe's.
    """

    data: ImagesConfig
    """Images and samples are compared at ``data.resolution``."""
    evaluation: EvaluationConfig
    """``num_samples``: number of captions, or all if there are fewer."""
    steps: int
    """Number of steps of the recipe's solver."""


# 30 000 captions at 256 pixels are customary; 224 is the training resolution of
# EfficientNet-lite0. Everything can be set on the command line.
PRESETS: dict[PresetName, ZeroShotPreset] = {
    "coco-zero-shot": ZeroShotPreset(
        data=ImagesConfig(resolution=256),
        evaluation=EvaluationConfig(num_samples=30_000, input_size=224),
        steps=50,
    )
}
