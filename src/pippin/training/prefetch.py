# SPDX-License-Identifier: Apache-2.0
"""Prefetching of the next batch while the GPU still computes a step."""

import time
from collections.abc import Callable, Iterator

from pippin.types import Batch


class Prefetcher:
    """Batches in order, with at most one prefetched.

    Prefetching runs in the loop's own thread while a GPU computes; on a CPU there is nothing to
    gain. An unused prefetched batch is dropped with the iterator; a resumed run starts at its own
    position.

    Args:
        batches: endless, or as many as are taken.
        busy: whether a device is still computing, so that prefetching is free.
    """

    def __init__(self, batches: Iterator[Batch], busy: Callable[[], bool]) -> None:
        self._batches, self._busy = batches, busy
        self._fetched: Batch | None = None

    def take(self) -> tuple[Batch, float]:
        """The next batch, and the seconds spent waiting for it."""
        batch, self._fetched = self._fetched, None
        if batch is not None:
            return batch, 0.0
        start = time.perf_counter()
        return next(self._batches), time.perf_counter() - start

    def prefetch(self) -> tuple[Batch | None, float]:
        """Fetch the next batch while a device computes.

        Returns:
            The next batch, if prefetched; and an upper bound on the device's idle seconds: if the
            device finished first, all of the fetching time.
        """
        if self._fetched is not None or not self._busy():
            return self._fetched, 0.0
        start = time.perf_counter()
        self._fetched = next(self._batches)
        return self._fetched, 0.0 if self._busy() else time.perf_counter() - start
