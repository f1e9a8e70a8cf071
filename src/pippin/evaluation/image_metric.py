# SPDX-License-Identifier: Apache-2.0
"""Metrics of single images: one number for each image, averaged over a set of images.

Declare one, and the evaluation measures it for samples, for real images and for samples of the
untrained model. This module imports no torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pippin.config import ConfigError
from pippin.evaluation.config import Part
from pippin.evaluation.metric import Group, MetricKind
from pippin.evaluation.metric_registry import metric_kinds

if TYPE_CHECKING:
    from torch import Tensor

    from pippin.types import Images


def _nothing(images: "Images") -> dict[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImageMetric(MetricKind):
    """A single metric with its computation; the name has no placeholder."""

    group: Group = "samples"
    part: Part | None = "quality"
    values: Callable[["Images"], "Tensor"]
    """(batch, 3, rows, columns) of uint8 -> (batch) of numbers."""
    protocol: Callable[["Images"], dict[str, Any]] = _nothing
    """Images -> settings that can change the number, as JSON values."""

    def __post_init__(self) -> None:
        """Refuse a name with placeholders: one function measures one metric."""
        super().__post_init__()
        if self.placeholders:
            raise ConfigError(
                f"image metric {self.name!r} measures one metric, so its name takes no "
                f"placeholder; got: {', '.join(self.placeholders)}; declare an ImageMetric for "
                "each metric"
            )


def image_metrics() -> tuple[ImageMetric, ...]:
    """The declared metrics of single images, in the order of declaration."""
    return tuple(kind for kind in metric_kinds() if isinstance(kind, ImageMetric))
