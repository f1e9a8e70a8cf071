# SPDX-License-Identifier: Apache-2.0
"""All distances between a set of images and a reference set, under their official names.

``FID``, ``sFID`` and ``IS`` are computed with the published Inception weights only. With other
features, the name contains them: ``FD-efflite0``, ``sFD-inception-ab12cd34``.

The floor of a metric is its value for held-out real images: call :func:`evaluate` again with those
as ``images`` and ``subject="real"``.
"""

from dataclasses import replace
from typing import Any

from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.features.clip_images import ClipImages
from pippin.evaluation.features.extraction import (
    FeatureExtractor,
    Features,
    check_same_extractor,
    extract,
)
from pippin.evaluation.measure import Jackknife, Measure, Subject
from pippin.evaluation.metric import Metric, MetricKind
from pippin.evaluation.metrics.cmmd import clip_discrepancy
from pippin.evaluation.metrics.declared.distances import (
    CMMD,
    COVERAGE,
    DENSITY,
    FD,
    INCEPTION_LIKE_SCORE,
    KID,
    KID_SUBSETS,
    PRECISION,
    RECALL,
    SFD,
)
from pippin.evaluation.metrics.frechet import (
    ORDER_SEED,
    SPLITS,
    GaussianStatistics,
    frechet_distance,
    inception_scores,
    shuffled_order,
)
from pippin.evaluation.metrics.kid import kernel_distance, subset_distances
from pippin.evaluation.metrics.prdc import check_counts, prdc
from pippin.evaluation.proportion import NORMAL_95
from pippin.evaluation.reference import ReferenceStatistics, check_features, statistics_of
from pippin.types import ImageStream


def metric_of_features(kind: MetricKind, extractor: str) -> Metric:
    """The metric of these features, under its official name if it has one."""
    return kind(features=extractor).in_features(extractor)


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


MIN_FRECHET_IMAGES = 5000
"""With fewer images, the bias of the Frechet distance is too large to list it first."""


def evaluate(
    images: ImageStream | Features,
    reference: ImageStream | Features,
    config: EvaluationConfig,
    extractor: FeatureExtractor,
    subject: Subject = "arm",
) -> list[Measure]:
    """All distances between a stream of images and a reference.

    Every image of both streams is used; the caller limits them to ``config.num_samples``. Either
    side may be precomputed features (:func:`pippin.evaluation.features.extraction.extract`).

    Returns:
        KID and coverage first below 5000 images, otherwise the Frechet distance first; each
        measure with the numbers of images, the reference's hash and the features' fingerprint.
        Inception adds sFID and the Inception score.

    Raises:
        ValueError: too few images on a side, or features of two different extractors.
    """
    return compare(_features(images, extractor), _features(reference, extractor), config, subject)


def compare(
    generated: Features,
    reference: Features,
    config: EvaluationConfig,
    subject: Subject = "arm",
    statistics: ReferenceStatistics | None = None,
) -> list[Measure]:
    """Measures of :func:`evaluate` from precomputed features.

    Args:
        generated, reference: features of two sets of images, by one extractor.
        config: subsets, neighbours, seed.
        subject: whose images the generated ones are.
        statistics: used for the Frechet distances instead of those of ``reference``, which may be
            a subset of the images of the statistics.

    Raises:
        ValueError: too few images on a side, or features of two different extractors.
    """
    check_same_extractor(generated, reference)
    shared = _shared(generated, reference)
    kid, coverage, *rest = [
        kernel_measure(generated, reference, kernel_jackknife(generated, reference)),
        *_neighbour_measures(generated, reference, shared, config.neighbours),
        _kernel_subset_measure(generated, reference, shared, config),
    ]
    if generated.extractor == ClipImages.name:
        rest.append(_clip_measure(generated, reference, shared))
    if statistics is not None:
        frechet = compare_statistics(generated, statistics)
    else:
        frechet = frechet_measures(generated, statistics_of(reference), shared)
        frechet += score_measures(generated)
    small = min(len(generated), len(reference)) < MIN_FRECHET_IMAGES
    ordered = [kid, coverage, *rest, *frechet] if small else [*frechet, kid, coverage, *rest]
    return [replace(measure, subject=subject) for measure in ordered]


def compare_statistics(generated: Features, reference: ReferenceStatistics) -> list[Measure]:
    """Measures from statistics of a reference: the Frechet distances and the Inception score.

    KID, precision, recall, density and coverage need the reference's images.

    Raises:
        ValueError: statistics of other features, or fewer than two generated images.
    """
    dim = generated.values.shape[1]
    check_features(reference, generated.extractor, generated.fingerprint, dim)
    shared = generated.protocol() | {
        "samples": len(generated),
        "reference_samples": reference.count,
        "reference_hash": reference.image_hash,
        "reference_features": "stated" if reference.fingerprint else "by the file's format",
    }
    return frechet_measures(generated, reference, shared) + score_measures(generated)


def kernel_measure(generated: Features, reference: Features, jackknife: Jackknife) -> Measure:
    """Result of :func:`kernel_jackknife` as the measure KID."""
    shared = _shared(generated, reference)
    metric = KID(features=generated.extractor)
    return _jackknife_measure(metric, jackknife, jackknife.interval(), shared)


def kernel_jackknife(generated: Features, reference: Features) -> Jackknife:
    """KID with its leave-one-out values.

    Raises:
        ValueError: fewer than three generated or two reference images.
    """
    return kernel_distance(generated.values, reference.values, reference.kernel_within)


def _shared(generated: Features, reference: Features) -> dict[str, Any]:
    """Protocol entries of every distance between two sets."""
    return generated.protocol() | {
        "samples": len(generated),
        "reference_samples": len(reference),
        "reference_hash": reference.image_hash,
    }


def _features(images: ImageStream | Features, extractor: FeatureExtractor) -> Features:
    return images if isinstance(images, Features) else extract(extractor, images)


def _neighbour_measures(
    generated: Features, reference: Features, shared: dict[str, Any], k: int
) -> list[Measure]:
    check_counts(len(generated), len(reference), k)
    radii = reference.squared_radii(k)
    neighbourhoods = prdc(generated.values, reference.values, k, radii)
    protocol = shared | {"neighbours": k}
    shares = {
        COVERAGE: neighbourhoods.coverage,
        PRECISION: neighbourhoods.precision,
        RECALL: neighbourhoods.recall,
    }
    measures = [
        _jackknife_measure(kind(), jackknife, jackknife.interval(0, 1), protocol)
        for kind, jackknife in shares.items()
    ]
    density = neighbourhoods.density
    interval = density.interval(lowest=0)
    return [*measures, _jackknife_measure(DENSITY(), density, interval, protocol)]


def _kernel_subset_measure(
    generated: Features, reference: Features, shared: dict[str, Any], config: EvaluationConfig
) -> Measure:
    """KID as papers report it: the mean over subsets, with the spread of one subset; no interval
    where all subsets are equal."""
    size = min(config.kid_subset_size, len(generated), len(reference))
    estimates = subset_distances(
        generated.values,
        reference.values,
        subsets=config.kid_subsets,
        size=size,
        seed=config.seed,
    )
    value, spread = float(estimates.mean()), float(estimates.std(correction=0))
    varies = config.kid_subsets > 1 and size < max(len(generated), len(reference))
    half = NORMAL_95 * spread if varies else None
    return Measure.of(
        KID_SUBSETS(features=generated.extractor),
        value,
        low=None if half is None else value - half,
        high=None if half is None else value + half,
        interval_over="subsets" if varies else "none",
        n=len(generated),
        protocol=shared
        | {"kid_subsets": config.kid_subsets, "kid_subset_size": size, "seed": config.seed},
    )


def _clip_measure(generated: Features, reference: Features, shared: dict[str, Any]) -> Measure:
    values, others = generated.values, reference.values
    jackknife = clip_discrepancy(values, others, reference.gaussian_within)
    metric = CMMD(features=generated.extractor)
    return _jackknife_measure(metric, jackknife, jackknife.interval(lowest=0), shared)


def _jackknife_measure(
    metric: Metric,
    jackknife: Jackknife,
    interval: tuple[float, float],
    protocol: dict[str, Any],
) -> Measure:
    low, high = interval
    return Measure.of(
        metric,
        jackknife.value,
        low=low,
        high=high,
        interval_over="samples",
        n=len(jackknife.leave_one_out),
        protocol=protocol | {"interval": "jackknife over generated images"},
    )
