# SPDX-License-Identifier: Apache-2.0
"""Report of one training step."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Measurements of one step, passed to the hooks."""

    images_seen: int
    loss: float
    grad_norm: float
    learning_rate: float
    finite: bool
    """False: the step was skipped."""
    bad_steps: int
    """Number of steps skipped so far."""
    data_seconds: float
    """Time spent waiting for the batch and for the step's random numbers."""
    step_seconds: float
    """Total time, waiting included."""
