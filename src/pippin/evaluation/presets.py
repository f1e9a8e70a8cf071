# SPDX-License-Identifier: Apache-2.0
"""Evaluations by name: every number that one fixes stands here, and imports no torch."""

from dataclasses import dataclass
from typing import Literal

from pippin.data.config import ImagesConfig
from pippin.evaluation.config import EvaluationConfig

PresetName = Literal["coco-zero-shot"]


@dataclass(frozen=True, kw_only=True)
class ZeroShotPreset:
    """Samples for the captions of a folder that a model was not trained on, against its pictures.

    Guidance, solver and all else of sampling are the recipe's.
    """

    data: ImagesConfig
    """Pictures and samples are compared at ``data.resolution``."""
    evaluation: EvaluationConfig
    """``num_samples``: captions that are drawn for, or all where there are fewer."""
    steps: int
    """Of the recipe's solver."""


# Our choices. 30 000 captions at 256 pixels are the custom of the field; 224 is the side that
# EfficientNet-lite0 was trained at. Everything can be set on the command line.
PRESETS: dict[PresetName, ZeroShotPreset] = {
    "coco-zero-shot": ZeroShotPreset(
        data=ImagesConfig(resolution=256),
        evaluation=EvaluationConfig(num_samples=30_000, input_size=224),
        steps=50,
    )
}
