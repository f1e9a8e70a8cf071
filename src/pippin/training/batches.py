# SPDX-License-Identifier: Apache-2.0
"""A run's batches, the next one fetched while a card still computes a step."""

import time
from collections.abc import Callable, Iterator

from pippin.types import Batch


class BatchesAhead:
    """Batches in their order, one at most fetched before it is asked for.

    In the loop's own thread: a card computes what it was given meanwhile, and where none does
    there is nothing to gain. What was fetched and is never asked for is lost with the iterator;
    a resumed run begins at its own place.

    Args:
        batches: without end, or as many as are asked for.
        busy: whether a device computes meanwhile, so that fetching costs no time.
    """

    def __init__(self, batches: Iterator[Batch], busy: Callable[[], bool]) -> None:
        self._batches, self._busy = batches, busy
        self._fetched: Batch | None = None

    def take(self) -> tuple[Batch, float]:
        """The next batch, and the seconds it was waited for now."""
        batch, self._fetched = self._fetched, None
        if batch is not None:
            return batch, 0.0
        began = time.perf_counter()
        return next(self._batches), time.perf_counter() - began

    def ahead(self) -> tuple[Batch | None, float]:
        """Fetch the next one where a device computes.

        Returns:
            The next batch, if it is fetched; and the seconds in which nothing else was computed,
            at most: where the device ended first, all of the fetching counts.
        """
        if self._fetched is not None or not self._busy():
            return self._fetched, 0.0
        began = time.perf_counter()
        self._fetched = next(self._batches)
        return self._fetched, 0.0 if self._busy() else time.perf_counter() - began
