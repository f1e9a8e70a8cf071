# SPDX-License-Identifier: Apache-2.0
"""What is known of one training step."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step tells the hooks."""

    images_seen: int
    loss: float
    grad_norm: float
    learning_rate: float
    finite: bool
    """False: the step was skipped."""
    bad_steps: int
    """Skipped so far."""
    data_seconds: float
    """Waiting for the batch and for the step's random numbers."""
    step_seconds: float
    """All of it, waiting included."""
