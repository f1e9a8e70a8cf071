# SPDX-License-Identifier: Apache-2.0
"""Coordination of the processes of one command that build its caches together."""

from collections.abc import Callable
from dataclasses import dataclass

from pippin.data.manifest import Verify
from pippin.data.shard_claims import Ready
from pippin.training.world import World


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


def builders_of(world: World) -> Builders:
    """Builders for the ranks of a training; all ranks need the same caches in the same order."""
    if world.is_rank0:
        return Builders(ready=lambda missing: world.barrier())
    return Builders(is_main=False, wait=world.barrier)
