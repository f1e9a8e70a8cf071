# SPDX-License-Identifier: Apache-2.0
"""Role of a process where several build caches together."""

from collections.abc import Callable
from dataclasses import dataclass

from pippin.data.cache.manifest import Verify
from pippin.data.cache.shard_claims import Ready


@dataclass(frozen=True, kw_only=True)
class Builders:
    """Role of this process in building caches.

    The main process verifies checksums, reports what it rebuilds and shows progress. When it is
    ready, all processes build what is missing. The others check file sizes only.
    """

    is_main: bool = True
    wait: Callable[[], None] = lambda: None
    """Called before a cache is opened: blocks until the main process is ready."""
    ready: Ready = lambda missing: None
    """Called in the main process: lets the others begin."""

    @property
    def verify(self) -> Verify:
        """How a finished cache is checked."""
        return "sha256" if self.is_main else "size"


SINGLE_BUILDER = Builders()
