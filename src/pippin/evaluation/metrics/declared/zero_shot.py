# SPDX-License-Identifier: Apache-2.0
"""Samples for another folder's captions; computed by :mod:`pippin.evaluation.runs.zero_shot`."""

from pippin.evaluation.metric import Inner, Metric, MetricKind
from pippin.evaluation.metric_registry import ship_metric
from pippin.evaluation.metrics.declared.captions import CLIP_SCORE
from pippin.evaluation.metrics.declared.distances import DENSITY, KID_SUBSETS, REPORTED_AT_BEST


def _inner(metric: Metric) -> Metric:
    assert metric.of is not None
    return metric.of


ZERO_SHOT = ship_metric(
    MetricKind(
        name="zero-shot {of}",
        group="samples",
        unit=lambda metric: _inner(metric).unit,
        better=lambda metric: _inner(metric).better,
        command="pippin evaluate RUN --preset",
        parameters={"of": Inner(kinds=(*REPORTED_AT_BEST, KID_SUBSETS, DENSITY, CLIP_SCORE))},
        description=(
            "{of} of samples for another folder's captions, against that folder's images."
        ),
    )
)
