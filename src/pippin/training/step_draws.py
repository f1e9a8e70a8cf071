# SPDX-License-Identifier: Apache-2.0
"""A step's random numbers, drawn while a device still computes the step before."""

import time
from collections.abc import Callable

from pippin.objective import Draws

Shape = tuple[int, ...]
"""(batch, channels, height, width) of the global batch's latents."""


class StepDraws:
    """Draws for one step at a time, ahead where the next batch's shape is known or likely.

    Args:
        draw: (step, shape) -> the draws; what it gives depends on these two alone.
        busy: whether a device computes meanwhile, so that drawing costs no time.
        drawn: called after each drawing.
    """

    def __init__(
        self,
        draw: Callable[[int, Shape], Draws],
        busy: Callable[[], bool],
        drawn: Callable[[], None],
    ) -> None:
        self._draw_step, self._busy, self._note = draw, busy, drawn
        self._drawn: tuple[int, Shape, Draws] | None = None
        self._one_shape = True
        """Whether all batches had one: then the next one has it too, fetched or not."""

    def take(self, step: int, shape: Shape) -> tuple[Draws, float]:
        """The step's draws, and the seconds they were waited for now."""
        late = 0.0
        if self._drawn is not None and self._drawn[1] != shape:
            self._one_shape = False
        if self._drawn is None or self._drawn[:2] != (step, shape):
            late = self._draw(step, shape)  # first step, or restored
        assert self._drawn is not None
        return self._drawn[2], late

    def ahead(self, step: int, shape: Shape, *, known: bool) -> float:
        """Draw for a step to come, if its shape is known, or all have had one; the seconds in
        which nothing else was computed."""
        return self._draw(step, shape) if known or self._one_shape else 0.0

    def _draw(self, step: int, shape: Shape) -> float:
        began = time.perf_counter()
        self._drawn = step, shape, self._draw_step(step, shape)
        seconds = time.perf_counter() - began
        hidden = self._busy()
        self._note()
        return 0.0 if hidden else seconds
