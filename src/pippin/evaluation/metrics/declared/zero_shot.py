# SPDX-License-Identifier: Apache-2.0
"""Samples for another folder's captions; computed by :mod:`pippin.evaluation.runs.zero_shot`."""

from pippin.evaluation.metric import Inner, MetricKind
from pippin.evaluation.metric_registry import ship_metric
from pippin.evaluation.metrics.declared.captions import CLIP_SCORE
from pippin.evaluation.metrics.declared.distances import DENSITY, KID_SUBSETS, REPORTED_AT_BEST

ZERO_SHOT = ship_metric(
    MetricKind(
        name="zero-shot {of}",
        group="samples",
        unit=lambda metric: metric.inner.unit,
        better=lambda metric: metric.inner.better,
        command="pippin evaluate RUN --preset",
        parameters={"of": Inner(kinds=(*REPORTED_AT_BEST, KID_SUBSETS, DENSITY, CLIP_SCORE))},
        description=(
            "{of} of samples for another folder's captions, against that folder's images."
        ),
    )
)
