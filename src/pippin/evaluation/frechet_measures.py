# SPDX-License-Identifier: Apache-2.0
"""Frechet distances and the Inception score as measures, under their official names.

``FID``, ``sFID`` and ``IS`` are computed with the published Inception weights only. With other
features, the name contains them: ``FD-efflite0``, ``sFD-inception-ab12cd34``.
"""

from typing import Any

from pippin.evaluation.features import Features
from pippin.evaluation.frechet import GaussianStatistics, frechet_distance
from pippin.evaluation.inception import NAME as INCEPTION
from pippin.evaluation.inception_score import (
    ORDER_SEED,
    SPLITS,
    inception_scores,
    shuffled_order,
)
from pippin.evaluation.measure import NORMAL_95, Measure
from pippin.evaluation.metric import Metric, MetricKind
from pippin.evaluation.metrics.distances import (
    FD,
    FID,
    INCEPTION_LIKE_SCORE,
    INCEPTION_SCORE,
    SFD,
    SFID,
)
from pippin.evaluation.reference import ReferenceStatistics

OFFICIAL = {FD: FID, SFD: SFID, INCEPTION_LIKE_SCORE: INCEPTION_SCORE}
"""Kind of any features -> its kind with the published Inception."""


def metric_of_features(kind: MetricKind, extractor: str) -> Metric:
    """The metric of these features, under its official name if it has one."""
    return OFFICIAL[kind]() if extractor == INCEPTION else kind(features=extractor)


def frechet_measures(
    generated: Features, reference: ReferenceStatistics, protocol: dict[str, Any]
) -> list[Measure]:
    """Frechet distance of the pooled features, and of the spatial ones if both sides have them.

    Raises:
        ValueError: different dimensions, or fewer than two images on a side.
    """
    statistics = GaussianStatistics.from_features(generated.values)
    pairs = {FD: (statistics, reference.pooled)}
    if generated.spatial is not None and reference.spatial is not None:
        pairs[SFD] = (GaussianStatistics.from_features(generated.spatial), reference.spatial)
    return [
        Measure.of(
            metric_of_features(kind, generated.extractor),
            frechet_distance(*sides),
            n=len(generated),
            protocol=protocol,
        )
        for kind, sides in pairs.items()
    ]


def score_measures(generated: Features) -> list[Measure]:
    """Inception score, if the features have logits; it does not depend on the reference.

    The interval is the mean -+ 1.96 standard deviations of one split's score, the spread that
    papers report.
    """
    if generated.logits is None:
        return []
    splits = min(SPLITS, len(generated))
    order = shuffled_order(len(generated))
    scores = inception_scores(generated.logits[order], splits)
    value, spread = float(scores.mean()), float(scores.std(correction=0))
    return [
        Measure.of(
            metric_of_features(INCEPTION_LIKE_SCORE, generated.extractor),
            value,
            low=max(1.0, value - NORMAL_95 * spread),
            high=value + NORMAL_95 * spread,
            interval_over="subsets",
            n=len(generated),
            protocol=generated.protocol()
            | {"samples": len(generated), "is_splits": splits, "is_order": ORDER_SEED},
        )
    ]
