# SPDX-License-Identifier: Apache-2.0
"""Projector of REPA: its width, and its place in a model to train or to plan."""

from pathlib import Path

from pippin.encoders.hub import model_config, model_folder
from pippin.evaluation.features.efflite0 import STAGE_CHANNELS
from pippin.model import LatentDenoiser, attach_projector
from pippin.nn.projector import TokenProjector
from pippin.training.repa.config import RepaConfig

EFFLITE0_STAGE = 3
"""Index of the feature map of stride 16, with 112 channels."""
DINOV2_WIDTHS = {"small": 384, "base": 768, "large": 1024, "giant": 1536}
"""Widths by the last word of a published name, such as facebook/dinov2-base."""


def feature_width(config: RepaConfig) -> int:
    """Number of features of an encoder; a hub model is downloaded, or found in the hub's cache.

    Raises:
        ValueError: no such model.
    """
    if config.encoder == "efflite0":
        return STAGE_CHANNELS[EFFLITE0_STAGE]
    folder = model_folder(str(config.source), "DINOv2")
    width = model_config(folder).get("hidden_size")
    if not isinstance(width, int):
        raise ValueError(
            f"train.repa.source: {folder}/config.json has no hidden_size; give a folder or hub "
            "name of a DINOv2 in transformers' format, such as facebook/dinov2-base"
        )
    return width


def planned_width(config: RepaConfig) -> int:
    """Like :func:`feature_width`, without a download: a hub model's width is that of its name, or
    768."""
    if config.encoder == "efflite0" or Path(str(config.source)).is_dir():
        return feature_width(config)
    return DINOV2_WIDTHS.get(str(config.source).rpartition("-")[2], DINOV2_WIDTHS["base"])


def add_projector(
    model: LatentDenoiser, config: RepaConfig, features: int, seed: int | None
) -> None:
    """Let a model train with REPA, or be planned; nothing happens where it is off.

    Args:
        model: on its device.
        config: block and projector.
        features: number of features of the encoder.
        seed: seed of the projector's initial weights; None keeps those of torch.
    """
    if config.enabled:
        width = model.denoiser.widths.modulation  # a transformer modulates tokens of this width
        projector = TokenProjector(config.projector, width, config.hidden_width, features)
        attach_projector(model, projector, config.block, seed)
