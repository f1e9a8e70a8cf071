# SPDX-License-Identifier: Apache-2.0
"""Control profile; computed by :mod:`pippin.evaluation.metrics.control_profile`."""

from functools import partial

from pippin.control import CONTROL_FIELDS
from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metric_parameters import ControlName, Number
from pippin.evaluation.metric_registry import ship_metric

_FIELD = ControlName(examples=tuple(CONTROL_FIELDS))
_PROFILE = partial(MetricKind, group="control", part="control-profile", better="neither")

PROFILE_POINT = ship_metric(
    _PROFILE(
        name="control profile {control} at log-SNR {at}",
        label="control profile ({control}), at log-SNR {at}",
        unit="x0-error",
        parameters={
            "control": _FIELD,
            "at": Number(listed_in="profile_log_snrs", examples=(-4.0, -2.0, 0.0, 2.0, 4.0)),
        },
        description="x0-error that a wrong value of the control adds at one noise level.",
    )
)
PROFILE_CENTRE = ship_metric(
    _PROFILE(
        name="control profile {control} centre",
        label="control profile ({control}), centre",
        unit="log-SNR",
        leads=True,
        parameters={"control": _FIELD},
        description=(
            "Mean log-SNR at which knowing the control lowers the denoising error: low while "
            "the layout forms, high where only detail is left."
        ),
    )
)
