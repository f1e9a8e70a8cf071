# SPDX-License-Identifier: Apache-2.0
"""Control drift and effect; computed by :mod:`pippin.evaluation.metrics.drift` and
:mod:`pippin.evaluation.probes`."""

from functools import partial

from pippin.control import CONTROL_FIELDS, Effect
from pippin.evaluation.metric import Inner, Metric, MetricKind
from pippin.evaluation.metric_parameters import ControlName
from pippin.evaluation.metric_registry import ship_metric

DRIFT_UNIT = "efflite0-distance"
"""Distance of drift in pippin's own features; a measure in another distance states its own."""
_CONTROL = partial(MetricKind, group="control", part="drift")


def _effect(metric: Metric) -> Effect:
    declared = CONTROL_FIELDS.get(metric.control)
    if declared is None or declared.effect is None:
        return Effect("", f"The response to {metric.control}; 0 = the control has no effect.")
    return declared.effect


DRIFT = ship_metric(
    _CONTROL(
        name="drift {control}{position}",
        label="drift ({control}{position})",
        unit=DRIFT_UNIT,
        better="lower",
        description=(
            "Perceptual distance between two images of one seed and class when only "
            "{control}{position} changes, after undoing that change itself; 0 = identical."
        ),
    )
)
EFFECT = ship_metric(
    _CONTROL(
        name="effect {control}{position}",
        label="effect ({control}{position})",
        unit=lambda metric: _effect(metric).unit,
        better="neither",
        target=True,
        description=lambda metric: _effect(metric).description,
    )
)
EXCESS_DRIFT = ship_metric(
    _CONTROL(
        name="excess drift {control}{position}",
        label="excess drift ({control}{position})",
        unit=DRIFT_UNIT,
        better="lower",
        description=(
            "How much else changes in an image when only {control}{position} changes, beyond "
            "what changes in real images; 0 = nothing."
        ),
    )
)
ASYMMETRIC_IMAGES = ship_metric(
    _CONTROL(
        name="asymmetric images {control}{position}",
        label="asymmetric images ({control}{position})",
        unit="share",
        better="neither",
        parameters={"control": ControlName(examples=("flip",))},
        description=(
            "Share of images that differ enough from their mirror image to test mirroring on."
        ),
    )
)
MATCHED_DRIFT = ship_metric(
    _CONTROL(
        name="matched drift {control}",
        label="matched drift ({control})",
        unit=DRIFT_UNIT,
        better="lower",
        leads=True,
        needs=("control_scales",),
        parameters={"control": ControlName(listed_in="scaled_controls")},
        description=(
            "Drift when {control} has a set share (default: half) of its effect on real images, "
            "reached by scaling control guidance: models are compared at equal effect."
        ),
    )
)


LPIPS = ship_metric(
    _CONTROL(
        name="LPIPS {of}",
        label=lambda metric: f"{metric.inner.label}, LPIPS",
        unit="LPIPS",
        better="lower",
        needs=("lpips",),
        parameters={"of": Inner(kinds=(DRIFT, EXCESS_DRIFT))},
        description=lambda metric: f"{metric.inner.description} Measured by LPIPS.",
    )
)
