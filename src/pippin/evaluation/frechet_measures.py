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
from pippin.evaluation.reference import ReferenceStatistics

OFFICIAL_NAMES = {"FD": "FID", "sFD": "sFID", "IS": "IS"}
"""Name of a measure with any features -> its name with the published Inception."""


def official_metric_name(kind: str, extractor: str) -> str:
    """Name of a measure of these features."""
    return OFFICIAL_NAMES[kind] if extractor == INCEPTION else f"{kind}-{extractor}"


def frechet_measures(
    generated: Features, reference: ReferenceStatistics, protocol: dict[str, Any]
) -> list[Measure]:
    """Frechet distance of the pooled features, and of the spatial ones if both sides have them.

    Raises:
        ValueError: different dimensions, or fewer than two images on a side.
    """
    statistics = GaussianStatistics.from_features(generated.values)
    pairs = {"FD": (statistics, reference.pooled)}
    if generated.spatial is not None and reference.spatial is not None:
        pairs["sFD"] = (GaussianStatistics.from_features(generated.spatial), reference.spatial)
    return [
        Measure(
            name=official_metric_name(kind, generated.extractor),
            value=frechet_distance(*sides),
            low=None,
            high=None,
            interval_over="none",
            n=len(generated),
            unit="",
            better="lower",
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
        Measure(
            name=official_metric_name("IS", generated.extractor),
            value=value,
            low=max(1.0, value - NORMAL_95 * spread),
            high=value + NORMAL_95 * spread,
            interval_over="subsets",
            n=len(generated),
            unit="",
            better="higher",
            protocol=generated.protocol()
            | {"samples": len(generated), "is_splits": splits, "is_order": ORDER_SEED},
        )
    ]
