# SPDX-License-Identifier: Apache-2.0
"""Memorisation; computed by :mod:`pippin.evaluation.metrics.memorisation`."""

from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metric_registry import ship_metric

NEAREST_TRAINING_DISTANCE = ship_metric(
    MetricKind(
        name="nearest training distance",
        group="samples",
        part="quality",
        unit="features",
        better="neither",
        description="Mean distance from a sample to the nearest training image, in features.",
    )
)
NEAR_COPIES = ship_metric(
    MetricKind(
        name="near copies",
        group="samples",
        part="quality",
        unit="share",
        better="lower",
        description=(
            "Share of samples that lie nearer to a training image than all but 5 % of real "
            "held-out images do: far above 0.05 means memorised."
        ),
    )
)
