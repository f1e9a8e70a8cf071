# SPDX-License-Identifier: Apache-2.0
"""The time schedule gamma(t) of control: how far a group of control fields may act at a time."""

import math

from pippin.conditioning.config import ConstantGate, Gate, LinearGate
from pippin.types import NUM_TIMES, Times


def gate_value(gate: Gate, t: Times) -> Times:
    """gamma(t) in [0, 1]: constant 1, or rising from 0 at pure noise (t = T) to 1 at t = 0.

    Berrada et al. 2024: e(c, t) = E_h(c_h) + gamma(t) E_l(c_l), with
    power-cosine gamma(t) = ((1 + cos(pi t / T)) / 2) ** alpha.
    """
    progress = t.float() / NUM_TIMES
    if isinstance(gate, ConstantGate):
        return progress.new_ones(progress.shape)
    if isinstance(gate, LinearGate):
        return 1 - progress
    return ((1 + (math.pi * progress).cos()) / 2) ** gate.alpha
