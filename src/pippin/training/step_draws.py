# SPDX-License-Identifier: Apache-2.0
"""Random numbers of a step, drawn while a device still computes the previous step."""

import time
from collections.abc import Callable

from pippin.objective import Draws

Shape = tuple[int, ...]
"""(batch, channels, height, width) of the global batch's latents."""


class StepDraws:
    """Draws for one step at a time, prefetched if the next batch's shape is known or likely.

    Args:
        draw: (step, shape) -> the draws, which depend on these two only.
        busy: whether a device is still computing, so that drawing is free.
        drawn: called after each draw.
    """

    def __init__(
        self,
        draw: Callable[[int, Shape], Draws],
        busy: Callable[[], bool],
        drawn: Callable[[], None],
    ) -> None:
        self._draw_step, self._busy, self._notify = draw, busy, drawn
        self._drawn: tuple[int, Shape, Draws] | None = None
        self._one_shape = True
        """Whether all batches so far had one shape, which the next one then likely has too."""

    def take(self, step: int, shape: Shape) -> tuple[Draws, float]:
        """The step's draws, and the seconds spent waiting for them."""
        waited = 0.0
        if self._drawn is not None and self._drawn[1] != shape:
            self._one_shape = False
        if self._drawn is None or self._drawn[:2] != (step, shape):
            waited = self._draw(step, shape)  # first step, or restored
        assert self._drawn is not None
        return self._drawn[2], waited

    def prefetch(self, step: int, shape: Shape, *, known: bool) -> float:
        """Draw for a coming step if its shape is known or all shapes were equal. Returns the idle
        seconds of the device."""
        return self._draw(step, shape) if known or self._one_shape else 0.0

    def _draw(self, step: int, shape: Shape) -> float:
        start = time.perf_counter()
        self._drawn = step, shape, self._draw_step(step, shape)
        seconds = time.perf_counter() - start
        hidden = self._busy()
        self._notify()
        return 0.0 if hidden else seconds
