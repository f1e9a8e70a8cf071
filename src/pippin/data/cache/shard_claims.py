# SPDX-License-Identifier: Apache-2.0
"""Locks that assign shards to processes, when several build one folder of shards.

One file, ``lock``, records which shards are done and holds all locks. The locks are byte ranges
(fcntl): shared disks support them, the system releases them when a process ends for any reason,
and child processes, such as DataLoader workers, do not inherit them. Closing any handle of the
file releases all locks, so a process opens the file once.
"""

import errno
import fcntl
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from pippin.system.files import list_names, name_file_in_errors
from pippin.system.lock import open_lock

Ready = Callable[[int], None]
"""Callback with the number of missing shards, called once after existing shards were checked.
Other processes may join from then on."""

LOCK = "lock"
_ENTRY_BYTE, _BUILDERS_BYTE, _FIRST_SHARD_BYTE = 0, 1, 2
"""Locked bytes: entry and finish; shared by all builders; one for each shard."""
_HEADER = 16
"""Length of the header in bytes: the shard size in digits. One state byte a shard follows."""
_MISSING, _DONE = b".", b"x"
_VALID_START = rb" *\d*[.x]?|\0+"
"""Pattern of the first bytes. The file is empty after a kill at the start of a build, and may
hold zeros after a power cut."""


def has_builders(folder: Path) -> bool:
    """Whether another process builds shards in a folder; creates no file.

    Not for a process that builds them itself: closing the file releases its own locks.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 2, _ENTRY_BYTE)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN)
    finally:
        os.close(descriptor)
    return False


class ShardClaims:
    """Claims of processes on the shards of a folder.

    The first builder checks existing shards and calls :meth:`start_build` with those that are
    complete. Processes that come during a build call :meth:`join_build`. Both calls happen inside
    :meth:`exclusive`. Each builder then claims shards with :meth:`claim_missing` until none is
    missing.

    Args:
        folder: existing folder of the shards.

    Raises:
        ValueError: the file is not a lock file.
        OSError: the file cannot be written or locked.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._file = open_lock(self._path)
        try:
            self._check_content()
        except BaseException:
            os.close(self._file)
            raise
        self._held: set[int] = set()
        self._count = 0
        self.shard_size = 0
        """Rows of a shard, the same for all builders."""

    def __enter__(self) -> "ShardClaims":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Critical section of one process, which sees the files of earlier processes."""
        self._lock(_ENTRY_BYTE)
        try:
            list_names(self._path.parent)
            yield
        finally:
            self._lock(_ENTRY_BYTE, fcntl.LOCK_UN)

    def is_only_builder(self) -> bool:
        """True if no other process builds; inside :meth:`exclusive` none can start."""
        return self._lock(_BUILDERS_BYTE, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def start_build(self, shard_size: int, complete: Sequence[bool]) -> None:
        """Start as the first builder, after :meth:`is_only_builder`, inside :meth:`exclusive`."""
        states = b"".join(_DONE if is_complete else _MISSING for is_complete in complete)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{shard_size:>{_HEADER}}".encode() + states, 0)
        self.join_build()

    def join_build(self) -> None:
        """Join the builders, inside :meth:`exclusive`."""
        self.join()
        self.shard_size = int(os.pread(self._file, _HEADER, 0))
        self._count = os.fstat(self._file).st_size - _HEADER

    def join(self) -> None:
        """Join the builders of a folder without states of shards, inside :meth:`exclusive`."""
        self._lock(_BUILDERS_BYTE, fcntl.LOCK_SH)

    @contextmanager
    def claimed(self, number: int) -> Iterator[None]:
        """Claim of a shard, whatever its state; waits for the process that holds it."""
        self._lock(_FIRST_SHARD_BYTE + number)
        try:
            yield
        finally:
            self._lock(_FIRST_SHARD_BYTE + number, fcntl.LOCK_UN)

    def wait_for_builders(self) -> None:
        """Wait until no other process builds, outside :meth:`exclusive`."""
        self._lock(_BUILDERS_BYTE)
        self._lock(_BUILDERS_BYTE, fcntl.LOCK_UN)

    def missing(self) -> list[int]:
        """Unfinished shards, in order."""
        states = self._states()
        return [number for number in range(self._count) if states[number : number + 1] != _DONE]

    def rows_done(self, total: int) -> int:
        """Number of rows in finished shards, out of ``total``; called after every batch."""
        states = self._states()
        excess = self._count * self.shard_size - total  # the last shard may be shorter
        return states.count(_DONE) * self.shard_size - excess * states.endswith(_DONE)

    def claim_missing(self, skip: Collection[int] = ()) -> Iterator[int]:
        """Missing shards that no other process has claimed; claims each one it yields.

        Args:
            skip: shards that this process cannot build.
        """
        for number in self.missing():
            if number not in skip and self._try_claim(number):
                yield number

    def release(self, number: int) -> None:
        """Release a claimed shard that stays missing."""
        self._held.remove(number)
        self._lock(_FIRST_SHARD_BYTE + number, fcntl.LOCK_UN)

    def mark_done(self, number: int) -> None:
        """Mark a claimed shard as complete and release it."""
        os.pwrite(self._file, _DONE, _HEADER + number)
        self.release(number)

    def wait_for_shard(self, skip: Collection[int] = ()) -> None:
        """Wait until the process that builds the first missing shard has finished it or ended.

        A process must not hold a claim here, else two processes could wait for each other.

        Args:
            skip: shards that this process cannot build.
        """
        assert not self._held
        for number in [number for number in self.missing() if number not in skip][:1]:
            self._lock(_FIRST_SHARD_BYTE + number)
            self._lock(_FIRST_SHARD_BYTE + number, fcntl.LOCK_UN)

    def _check_content(self) -> None:
        """Check that the file is not a hard link or an unrelated file."""
        start = os.pread(self._file, _HEADER + 1, 0)
        if not re.fullmatch(_VALID_START, start):
            raise ValueError(
                f"{self._path} is not the lock file of a latent cache: move it away and run the "
                "same command again"
            )

    def _states(self) -> bytes:
        return os.pread(self._file, self._count, _HEADER)

    def _try_claim(self, number: int) -> bool:
        """Claim a shard. The state is read under the lock: other reads may be stale on shared
        disks."""
        if number in self._held:  # a process never excludes itself
            return False
        if not self._lock(_FIRST_SHARD_BYTE + number, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
        if os.pread(self._file, 1, _HEADER + number) == _DONE:
            self._lock(_FIRST_SHARD_BYTE + number, fcntl.LOCK_UN)
            return False
        self._held.add(number)
        return True

    def _lock(self, byte: int, operation: int = fcntl.LOCK_EX) -> bool:
        """Lock or unlock a byte; False if LOCK_NB is set and another process holds the lock."""
        try:
            with name_file_in_errors(self._path):
                fcntl.lockf(self._file, operation, 1, byte)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True
