# SPDX-License-Identifier: Apache-2.0
"""Distances between sets of images; computed by :mod:`pippin.evaluation.distances`."""

from functools import partial

from pippin.evaluation.metric import Metric, MetricKind
from pippin.evaluation.metric_parameters import ClipFeatures, UnofficialFeatures, network_of
from pippin.evaluation.metric_registry import ship_metric

_SAMPLES = partial(MetricKind, group="samples", part="quality")
_OTHER_INCEPTION = {"features": UnofficialFeatures(examples=("inception-ab12cd34",))}


def _kid_words(metric: Metric) -> str:
    if network_of(metric.features) == "inception":
        return (
            "Distance between samples and reference in Inception features; 0 = as close as a "
            "second set of reference images."
        )
    return (
        "Distance between samples and training images, in features of another network than "
        "Inception; 0 = as close as a second set of training images. Not comparable with "
        "published KID."
    )


def _fd_words(metric: Metric) -> str:
    if network_of(metric.features) == "inception":
        return (
            "Fréchet distance in features of an Inception that is not the published one: not FID."
        )
    return (
        "Fréchet distance in features of another network than Inception; large with few samples "
        "even for real images. Not FID."
    )


KID = ship_metric(
    _SAMPLES(name="KID-{features}", better="lower", leads=True, description=_kid_words)
)
KID_SUBSETS = ship_metric(
    _SAMPLES(
        name="KID-{features} subsets",
        better="lower",
        description="KID as the mean over random subsets, as papers report it.",
    )
)
FID = ship_metric(
    _SAMPLES(
        name="FID",
        features="inception",
        better="lower",
        leads=True,
        description=(
            "Fréchet distance in features of the published Inception; comparable with papers that "
            "use the same reference and number of images."
        ),
    )
)
SFID = ship_metric(
    _SAMPLES(
        name="sFID",
        features="inception",
        better="lower",
        description=(
            "Fréchet distance in spatial features: the first channels of an inner feature map."
        ),
    )
)
INCEPTION_SCORE = ship_metric(
    _SAMPLES(
        name="IS",
        features="inception",
        better="higher",
        description=("Inception score: confident and varied ImageNet classes; uses no reference."),
    )
)
FD = ship_metric(
    _SAMPLES(
        name="FD-{features}",
        parameters={"features": UnofficialFeatures()},
        official=FID,
        better="lower",
        description=_fd_words,
    )
)
SFD = ship_metric(
    _SAMPLES(
        name="sFD-{features}",
        parameters=_OTHER_INCEPTION,
        official=SFID,
        better="lower",
        description=(
            "Fréchet distance in spatial features of an Inception that is not the published one."
        ),
    )
)
INCEPTION_LIKE_SCORE = ship_metric(
    _SAMPLES(
        name="IS-{features}",
        parameters=_OTHER_INCEPTION,
        official=INCEPTION_SCORE,
        better="higher",
        description="Inception score by an Inception that is not the published one.",
    )
)
COVERAGE = ship_metric(
    _SAMPLES(
        name="coverage",
        unit="share",
        better="higher",
        leads=True,
        description=(
            "Share of real training images that have a sample near them: variety; 1 = all."
        ),
    )
)
PRECISION = ship_metric(
    _SAMPLES(
        name="precision",
        unit="share",
        better="higher",
        description="Share of samples that lie near real images: realism; 1 = all.",
    )
)
RECALL = ship_metric(
    _SAMPLES(
        name="recall",
        unit="share",
        better="higher",
        description="Share of real images inside the region that the samples fill; 1 = all.",
    )
)
DENSITY = ship_metric(
    _SAMPLES(
        name="density",
        better="higher",
        description="How tightly samples lie among real images; real images reach about 1.",
    )
)

CMMD = ship_metric(
    _SAMPLES(
        name="CMMD-{features}",
        parameters={"features": ClipFeatures()},
        better="lower",
        leads=True,
        needs=("clip",),
        description=(
            "1000 times the squared maximum mean discrepancy of CLIP embeddings under a Gaussian "
            "kernel; 0 = equal sets. With clip-vit-large-patch14-336 the published CMMD."
        ),
    )
)

FRECHET_DISTANCES = (FID, FD)
"""Fréchet distances of pooled features."""
REPORTED_AT_BEST = (
    KID,
    CMMD,
    *FRECHET_DISTANCES,
    SFD,
    SFID,
    INCEPTION_LIKE_SCORE,
    INCEPTION_SCORE,
    COVERAGE,
    PRECISION,
    RECALL,
)
"""Kinds that are reported at the best scale or request."""
