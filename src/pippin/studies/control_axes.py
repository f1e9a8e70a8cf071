# SPDX-License-Identifier: Apache-2.0
"""The two changes of conditioning of Berrada et al. 2024 as axes, and the evaluation of drift."""

from dataclasses import replace
from typing import Any

from pippin.conditioning.config import ConstantGate, Gate, PowerCosineGate
from pippin.recipes.recipe import Recipe
from pippin.study.study import Axis

PRIMARY = "matched drift original_size"
COMPANIONS = (
    "excess drift original_size",
    "effect original_size",
    "KID-efflite0",
    "held-out loss",
)
SMALLEST_DRIFT = 0.05
"""Smallest difference of drift that matters, in efflite0-distance, declared before any run: about
half of the distance caused by moving an image by one pixel."""
CONTROL_SCALES = (0.5, 1.0, 2.0, 4.0)
"""Scales of control guidance at which drift and effect are measured: high enough for weakly
responding models to reach half of the real effect."""
SIZES = (24, 48)
"""Further requested sizes of the drift curve, in pixels, for images of 64 pixels."""
CONTROL_ARMS = {
    "entangled": {"path": "modulation", "gate": "constant"},
    "gate-alone": {"path": "modulation", "gate": "scheduled"},
    "attention-alone": {"path": "attention", "gate": "constant"},
    "disentangled": {"path": "attention", "gate": "scheduled"},
}
"""Arm -> level of each axis of :func:`control_axes`: a 2 x 2 design."""
ENDS = ("entangled", "disentangled")
"""The arms without any of the two changes, and with both."""


def control_axes(gate: Gate | None = None) -> dict[str, Axis]:
    """The two changes of Berrada et al. 2024 as axes: semantic path and control gate.

    Args:
        gate: the time schedule of low-level control at the level "scheduled"; None = power-cosine
            with its default alpha.
    """
    path: dict[str, dict[str, Any]] = {
        "modulation": {"conditioning.rules": {"label": "modulation"}},
        "attention": {"conditioning.rules": {"label": "attention"}},
    }
    gates: dict[str, dict[str, Any]] = {
        "constant": {"conditioning.control.low_gate": ConstantGate()},
        "scheduled": {"conditioning.control.low_gate": gate or PowerCosineGate()},
    }
    return {
        "path": Axis(levels=path, description="how the class enters the network"),
        "gate": Axis(levels=gates, description="when low-level control (size) is heard"),
    }


MOST_SEARCHED = 2000
"""Largest number of samples at each guidance scale of the search for the best scale."""


def with_drift_evaluation(base: Recipe) -> Recipe:
    """The base with evaluation of drift against effect and of the best guidance scale."""
    evaluation = replace(
        base.evaluation,
        control_scales=CONTROL_SCALES,
        size_curve=SIZES if base.data.resolution == 64 else (),
        scales=(1.0, 1.5, 2.0, 3.0),
        scale_samples=max(2, min(MOST_SEARCHED, base.evaluation.num_samples // 2)),
    )
    return replace(base, evaluation=evaluation)
