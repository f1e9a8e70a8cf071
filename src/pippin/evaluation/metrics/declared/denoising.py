# SPDX-License-Identifier: Apache-2.0
"""Held-out denoising loss; computed by :mod:`pippin.evaluation.metrics.denoising`."""

from functools import partial

from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metric_parameters import Number
from pippin.evaluation.metric_registry import ship_metric

_LOSS = partial(MetricKind, group="loss", part="held-out", better="lower")
_AT = {"at": Number(listed_in="loss_log_snrs", examples=(-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0))}
_AT_LEVEL = "Squared error at one noise level; a high log-SNR is little noise."

HELD_OUT_LOSS = ship_metric(
    _LOSS(
        name="held-out loss",
        leads=True,
        description=(
            "Mean squared error of the noise that a prediction of any type implies, on held-out "
            "images over a fixed grid of log-SNR; zero gives 1. The training loss is another "
            "quantity."
        ),
    )
)
HELD_OUT_X0_LOSS = ship_metric(
    _LOSS(
        name="held-out x0 loss",
        description="Held-out loss, counted in the clean latent instead of the noise.",
    )
)
EPS_ERROR = ship_metric(
    _LOSS(name="eps-error at log-SNR {at}", parameters=_AT, description=_AT_LEVEL)
)
X0_ERROR = ship_metric(
    _LOSS(name="x0-error at log-SNR {at}", parameters=_AT, description=_AT_LEVEL)
)
