# SPDX-License-Identifier: Apache-2.0
"""Size of a model and cost of its samples; computed by :mod:`pippin.evaluation.metrics.cost` and
:mod:`pippin.evaluation.runs.sampling_cost`."""

from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metric_registry import ship_metric

PARAMETERS = ship_metric(
    MetricKind(
        name="parameters",
        group="cost",
        better="neither",
        leads=True,
        description="Trainable parameters.",
    )
)
MACS = ship_metric(
    MetricKind(
        name="MACs",
        group="cost",
        unit="multiply-accumulates per image",
        better="neither",
        leads=True,
        description="Multiply-accumulates of one forward pass for one image (1 MAC = 2 FLOPs).",
    )
)
SAMPLING_MACS = ship_metric(
    MetricKind(
        name="sampling MACs",
        group="cost",
        unit="multiply-accumulates per image",
        better="neither",
        description=(
            "Multiply-accumulates of all network evaluations of one sample, those of a weaker "
            "model that guides at its own size."
        ),
    )
)
