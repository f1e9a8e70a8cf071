# SPDX-License-Identifier: Apache-2.0
"""Time schedule gamma(t) of control: the strength of a group of control fields at each time."""

import math
from collections.abc import Callable

from pippin.conditioning.config import ConstantGate, Gate, LinearGate, LogSnrGate
from pippin.types import NUM_TIMES, Times

LogSnr = Callable[[Times], Times]
"""Log-SNR of a schedule at times."""


def gate_value(gate: Gate, t: Times, log_snr: LogSnr | None = None) -> Times:
    """Gate gamma(t) in [0, 1]: constant 1, or rising from 0 at pure noise (t = T) to 1 at t = 0.

    Berrada et al. 2024: e(c, t) = E_h(c_h) + gamma(t) E_l(c_l), with power-cosine gamma(t) =
    ((1 + cos(pi t / T)) / 2) ** alpha. The gate in log-SNR is our addition.

    Args:
        gate: the time schedule.
        t: times in [0, T].
        log_snr: log-SNR of the model's noise schedule, which only a gate in log-SNR reads.

    Raises:
        ValueError: a gate in log-SNR without a noise schedule.
    """
    if isinstance(gate, LogSnrGate):
        if log_snr is None:
            raise ValueError(
                "a control gate of kind log-snr needs the model's noise schedule: give "
                "build_model(..., log_snr=schedule.log_snr)"
            )
        return ((log_snr(t.float()) - gate.centre) / gate.width).sigmoid()
    progress = t.float() / NUM_TIMES
    if isinstance(gate, ConstantGate):
        return progress.new_ones(progress.shape)
    if isinstance(gate, LinearGate):
        return 1 - progress
    return ((1 + (math.pi * progress).cos()) / 2) ** gate.alpha
