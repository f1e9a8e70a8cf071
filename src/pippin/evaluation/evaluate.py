# SPDX-License-Identifier: Apache-2.0
"""How far a set of images is from a reference set, by every distance we have.

The floor of a number is the same number for held-out real pictures: call :func:`evaluate` once
more with those as ``images`` and ``subject="real"``.
"""

from dataclasses import replace
from typing import Any

from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.features import FeatureExtractor, Features, extract
from pippin.evaluation.frechet_measures import frechet_measures, score_measures
from pippin.evaluation.kid import kernel_distance, subset_distances
from pippin.evaluation.measure import NORMAL_95, Better, Jackknife, Measure, Subject
from pippin.evaluation.prdc import check_counts, prdc
from pippin.evaluation.reference import ReferenceStatistics, check_features, statistics_of
from pippin.types import ImageStream

SMALL = 5000
"""Below so many images the Frechet distance's bias is too large for it to lead."""


def evaluate(
    images: ImageStream | Features,
    reference: ImageStream | Features,
    config: EvaluationConfig,
    extractor: FeatureExtractor,
    subject: Subject = "arm",
) -> list[Measure]:
    """All distances between a stream of images and a reference.

    Every image of both streams is used; ``config.num_samples`` is the caller's to honour.
    Features taken before (:func:`pippin.evaluation.features.extract`) may stand for either side.

    Returns:
        KID and coverage first below 5000 images, the Frechet distance first from there on; each
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
    """The measures of :func:`evaluate` from features.

    Args:
        generated, reference: of two sets of images, by one extractor.
        config: subsets, neighbours, seed.
        subject: whose images the generated ones are.
        statistics: for the Frechet distances in the place of those of ``reference``, which may be
            a part of the images that they are of.

    Raises:
        ValueError: too few images on a side, or features of two different extractors.
    """
    if generated.protocol() != reference.protocol():
        raise ValueError(
            "features of different extractors cannot be compared: "
            f"{generated.protocol()} and {reference.protocol()}"
        )
    shared = _shared(generated, reference)
    kid, coverage, *rest = [
        kernel_measure(generated, reference, kernel_jackknife(generated, reference)),
        *_neighbours(generated, reference, shared, config.neighbours),
        _kernel_subsets(generated, reference, shared, config),
    ]
    if statistics is not None:
        frechet = compare_statistics(generated, statistics)
    else:
        frechet = frechet_measures(generated, statistics_of(reference), shared)
        frechet += score_measures(generated)
    small = min(len(generated), len(reference)) < SMALL
    ordered = [kid, coverage, *rest, *frechet] if small else [*frechet, kid, coverage, *rest]
    return [replace(one, subject=subject) for one in ordered]


def compare_statistics(
    generated: Features, reference: ReferenceStatistics, subject: Subject = "arm"
) -> list[Measure]:
    """What statistics of a reference allow: the Frechet distances; and the Inception score.

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
    found = frechet_measures(generated, reference, shared) + score_measures(generated)
    return [replace(one, subject=subject) for one in found]


def kernel_measure(generated: Features, reference: Features, found: Jackknife) -> Measure:
    """What :func:`kernel_jackknife` found, as the measure KID."""
    shared = _shared(generated, reference)
    name = f"KID-{generated.extractor}"
    return _jackknifed(name, found, found.interval(), "", "lower", shared)


def kernel_jackknife(generated: Features, reference: Features) -> Jackknife:
    """KID alone.

    Raises:
        ValueError: fewer than three generated or two reference images.
    """
    return kernel_distance(generated.values, reference.values, reference.kernel_within)


def _shared(generated: Features, reference: Features) -> dict[str, Any]:
    """What every distance between two sets depends on."""
    return generated.protocol() | {
        "samples": len(generated),
        "reference_samples": len(reference),
        "reference_hash": reference.image_hash,
    }


def _features(images: ImageStream | Features, extractor: FeatureExtractor) -> Features:
    return images if isinstance(images, Features) else extract(extractor, images)


def _neighbours(
    generated: Features, reference: Features, shared: dict[str, Any], k: int
) -> list[Measure]:
    check_counts(len(generated), len(reference), k)
    radii = reference.squared_radii(k)
    found = prdc(generated.values, reference.values, k, radii)
    protocol = shared | {"neighbours": k}
    shares = {"coverage": found.coverage, "precision": found.precision, "recall": found.recall}
    measures = [
        _jackknifed(name, one, one.interval(0, 1), "share", "higher", protocol)
        for name, one in shares.items()
    ]
    density = found.density
    interval = density.interval(lowest=0)
    return [*measures, _jackknifed("density", density, interval, "", "higher", protocol)]


def _kernel_subsets(
    generated: Features, reference: Features, shared: dict[str, Any], config: EvaluationConfig
) -> Measure:
    """What papers report as KID: the mean over subsets, with the spread of one subset."""
    size = min(config.kid_subset_size, len(generated), len(reference))
    found = subset_distances(
        generated.values,
        reference.values,
        subsets=config.kid_subsets,
        size=size,
        seed=config.seed,
    )
    value, spread = float(found.mean()), float(found.std(correction=0))
    return Measure(
        name=f"KID-{generated.extractor} subsets",
        value=value,
        low=value - NORMAL_95 * spread,
        high=value + NORMAL_95 * spread,
        interval_over="subsets",
        n=len(generated),
        unit="",
        better="lower",
        protocol=shared
        | {"kid_subsets": config.kid_subsets, "kid_subset_size": size, "seed": config.seed},
    )


def _jackknifed(
    name: str,
    found: Jackknife,
    interval: tuple[float, float],
    unit: str,
    better: Better,
    protocol: dict[str, Any],
) -> Measure:
    low, high = interval
    return Measure(
        name=name,
        value=found.value,
        low=low,
        high=high,
        interval_over="samples",
        n=len(found.left_out),
        unit=unit,
        better=better,
        protocol=protocol | {"interval": "jackknife over generated images"},
    )
