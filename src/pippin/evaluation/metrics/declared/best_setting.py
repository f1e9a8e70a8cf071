# SPDX-License-Identifier: Apache-2.0
"""Searches for the best guidance scale, interval and request; computed by
:mod:`pippin.evaluation.runs.best_scale`, :mod:`pippin.evaluation.runs.best_interval` and
:mod:`pippin.evaluation.runs.best_request`."""

from functools import partial

from pippin.evaluation.metric import Better, Inner, Metric, MetricKind
from pippin.evaluation.metric_parameters import Number
from pippin.evaluation.metric_registry import ship_metric
from pippin.evaluation.metrics.declared.distances import FRECHET_DISTANCES, KID, REPORTED_AT_BEST
from pippin.evaluation.metrics.declared.sharpness import SHARPNESS

_CHOSEN = partial(MetricKind, group="samples", better="neither")
SEARCHED_AT_REQUEST = (KID, *FRECHET_DISTANCES, SHARPNESS)
"""Kinds that are measured at every request of the search."""


def _better(metric: Metric) -> Better:
    return metric.inner.better


_ELSEWHERE = partial(
    MetricKind, group="samples", unit=lambda metric: metric.inner.unit, better=_better
)


def _leads(metric: Metric) -> bool:
    return metric.inner.kind is KID


_CRITERION = (
    "Criterion by which the best scale, interval or request was chosen; not a quality metric."
)

BEST_SCALE = ship_metric(
    _CHOSEN(
        name="best semantic scale",
        needs=("scales",),
        description="The guidance scale with the smallest KID, found on separate samples.",
    )
)
FITTED_SCALE = ship_metric(
    _CHOSEN(
        name="fitted semantic scale",
        needs=("scales",),
        description="Where a parabola through the KIDs of the search has its smallest value.",
    )
)
FITTED_GUIDANCE = ship_metric(
    _CHOSEN(
        name="fitted guidance per 64 px",
        leads=True,
        needs=("scales",),
        description=(
            "Fitted scale minus 1, per 64 pixels of side: equal at all resolutions if the best "
            "scale follows lambda' = 1 + s (lambda - 1)."
        ),
    )
)
BEST_GUIDE_SCALE = ship_metric(
    _CHOSEN(
        name="best guide scale",
        needs=("scales",),
        description="The scale of autoguidance with the smallest KID, found on separate samples.",
    )
)
FITTED_GUIDE_SCALE = ship_metric(
    _CHOSEN(
        name="fitted guide scale",
        needs=("scales",),
        description="Where a parabola through the KIDs of autoguidance has its smallest value.",
    )
)
BEST_INTERVAL_LOW, BEST_INTERVAL_HIGH = (
    ship_metric(
        _CHOSEN(
            name=f"best interval {end}",
            unit="log-SNR",
            needs=("intervals",),
            description=(
                f"The {side} end of the guidance interval with the smallest KID, found on "
                "separate samples."
            ),
        )
    )
    for end, side in (("low", "noisy"), ("high", "clean"))
)
BEST_INTERVAL_SCALE = ship_metric(
    _CHOSEN(
        name="best interval scale",
        needs=("intervals",),
        description="The guidance scale that was found together with the best interval.",
    )
)
SEARCH_AT_INTERVAL = ship_metric(
    _ELSEWHERE(
        name="search {of} at interval {low} to {high} scale {at}",
        needs=("intervals",),
        parameters={
            "of": Inner(kinds=(KID,)),
            "low": Number(examples=(-3.0,)),
            "high": Number(examples=(3.0,)),
            "at": Number(examples=(2.0,)),
        },
        description=_CRITERION,
    )
)
AT_BEST_INTERVAL = ship_metric(
    _ELSEWHERE(
        name="{of} at best interval",
        leads=_leads,
        needs=("intervals",),
        parameters={"of": Inner(kinds=REPORTED_AT_BEST)},
        description="{of} at best interval of guidance, on the half of the reference kept for it.",
    )
)
BEST_REQUEST = ship_metric(
    _CHOSEN(
        name="best request",
        unit="px",
        needs=("requests",),
        description=(
            "The requested original size with the smallest FD, found on separate samples."
        ),
    )
)
BEST_REQUEST_SCALE = ship_metric(
    _CHOSEN(
        name="best request scale",
        needs=("requests",),
        description="The guidance scale that was found together with the best request.",
    )
)
SEARCH_AT_SCALE = ship_metric(
    _ELSEWHERE(
        name="search {of} at scale {at}",
        needs=("scales",),
        parameters={
            "of": Inner(kinds=(KID,)),
            "at": Number(listed_in="scales", examples=(2.0,)),
        },
        description=_CRITERION,
    )
)
SEARCH_AT_REQUEST = ship_metric(
    _ELSEWHERE(
        name="search {of} at request {request} scale {at}",
        needs=("requests",),
        parameters={
            "of": Inner(kinds=SEARCHED_AT_REQUEST),
            "request": Number(listed_in="requests", examples=(32,)),
            "at": Number(examples=(2.0,)),
        },
        description=_CRITERION,
    )
)
AT_BEST_SCALE = ship_metric(
    _ELSEWHERE(
        name="{of} at best scale",
        leads=_leads,
        needs=("scales",),
        parameters={"of": Inner(kinds=REPORTED_AT_BEST)},
        description="{of} at best scale of guidance, on the half of the reference kept for it.",
    )
)
AT_SCALE_ONE = ship_metric(
    _ELSEWHERE(
        name="{of} at scale 1",
        leads=_leads,
        needs=("scales",),
        parameters={"of": Inner(kinds=REPORTED_AT_BEST)},
        description="{of} at scale 1 of guidance, on the half of the reference kept for it.",
    )
)
AT_BEST_REQUEST = ship_metric(
    _ELSEWHERE(
        name="{of} at best request",
        leads=_leads,
        needs=("requests",),
        parameters={"of": Inner(kinds=(*REPORTED_AT_BEST, SHARPNESS))},
        description="{of} at the best requested original size, on the half kept for it.",
    )
)
