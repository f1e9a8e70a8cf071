# SPDX-License-Identifier: Apache-2.0
"""Processes of one command that build its caches together."""

from collections.abc import Callable
from dataclasses import dataclass

from pippin.data.claims import Ready
from pippin.data.manifest import Verify
from pippin.training.world import World


@dataclass(frozen=True, kw_only=True)
class Builders:
    """This process's place among them.

    The first one verifies checksums, says what is made again and shows progress; when it is ready,
    all make what is missing. The others look at sizes only.
    """

    first: bool = True
    wait: Callable[[], None] = lambda: None
    """Before a cache is looked at: until the first process is ready."""
    ready: Ready = lambda missing: None
    """In the first process: lets the others begin."""

    @property
    def verify(self) -> Verify:
        """How a finished cache is checked."""
        return "sha256" if self.first else "size"


ONE_BUILDER = Builders()


def builders_of(world: World) -> Builders:
    """The processes that train together, which all ask for the same caches in the same order."""
    if world.first:
        return Builders(ready=lambda missing: world.barrier())
    return Builders(first=False, wait=world.barrier)
