# SPDX-License-Identifier: Apache-2.0
"""Sharpness: distances decrease when samples are blurred, so read every distance with it."""

from typing import TYPE_CHECKING, Any

from pippin.evaluation.image_metric import ImageMetric
from pippin.evaluation.metric_registry import ship_metric

if TYPE_CHECKING:
    from torch import Tensor

    from pippin.types import Images


def _side(images: "Images") -> int:
    """Half of an image's shorter side, in pixels: detail that does not fit into it counts."""
    return min(images.shape[-2:]) // 2


def log_sharpness_at_half_size(images: "Images") -> "Tensor":
    """Natural logarithm of the share of detail of each image (batch)."""
    from pippin.evaluation.metrics.appearance import log_sharpness

    return log_sharpness(images, _side(images))


def _protocol(images: "Images") -> dict[str, Any]:
    return {"sharpness_side": _side(images)}


SHARPNESS = ship_metric(
    ImageMetric(
        name="sharpness",
        group="samples",
        unit="nat",
        better="neither",
        target=True,
        description=(
            "Share of an image's energy in detail lost at half the resolution, as a natural "
            "logarithm: blurred images have less."
        ),
        values=log_sharpness_at_half_size,
        protocol=_protocol,
    )
)
