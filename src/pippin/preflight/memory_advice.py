# SPDX-License-Identifier: Apache-2.0
"""Settings that take less memory, after a GPU was exhausted."""

from dataclasses import replace

from pippin.planning.fitting import option_lines
from pippin.planning.plan import plan
from pippin.preflight.resources import MAX_OPTIONS, gigabytes, listed
from pippin.preflight.start import Start

SHARE = 0.8
"""Share of the planned memory that was too much which the advised settings may take."""


def memory_advice(error: BaseException, start: Start, again: str) -> str:
    """Message for exhausted memory: the settings that fit, and the command that resumes.

    A plan that fitted was wrong, so the advised settings take clearly less than what was tried.

    Args:
        error: torch's error.
        start: the start of the training.
        again: the command that resumes.
    """
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    planned, cluster = start.memory, start.cluster
    limit = SHARE * planned
    if start.gpu is not None:
        limit = min(limit, cluster.usable)
    lower = replace(cluster, memory_gb=limit / 1e9, headroom=0.0)
    shape, classes = start.latent_shape, start.num_classes
    options = plan(start.recipe, lower, latent_shape=shape, num_classes=classes).options
    return (
        f"not enough memory ({reason}); the plan was {gigabytes(planned)} of each device. "
        f"Settings that take less and change rounding only, fewest hours first:"
        f"{listed(option_lines(options[:MAX_OPTIONS]))}\nadd one of these lines to: {again}"
    )
