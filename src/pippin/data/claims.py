# SPDX-License-Identifier: Apache-2.0
"""Which process makes which shard, where several build one folder of shards at once.

One file, ``lock``, says of each shard whether it is done and carries all locks. These are ranges
of bytes (fcntl), because shared disks know them, the system frees them when a process ends however
it ends, and processes that a builder starts, such as a DataLoader's, do not inherit them. Closing
any handle of the file frees them all: a process opens it once.
"""

import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from pippin.system.files import listed, naming
from pippin.system.lock import open_lock

Ready = Callable[[int], None]
"""Called once, with how many shards are missing, when what is there has been checked: from then
on others may take part."""

LOCK = "lock"
_GATE, _BUILDERS, _SHARDS = 0, 1, 2
"""Bytes that are locked: to enter and to finish; shared by all builders; one for each shard."""
_HEADER = 16
"""Bytes before the letters: the size of a shard in digits."""
_MISSING, _DONE = b".", b"x"
_CONTENT = rb" *\d*[.x]?|\0+"
"""How the file begins; a kill as a build began leaves it empty, a power cut may leave zeros."""


class Claims:
    """Who makes which shard of a folder.

    The first builder checks what is there and says by :meth:`begin` which shards are whole; those
    that come while others build :meth:`join`; either happens inside :meth:`gate`. Then each takes
    shards by :meth:`free` until none is missing.

    Args:
        folder: with the shards; it exists.

    Raises:
        ValueError: the file is none of this kind.
        OSError: the file cannot be written or locked.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._file = open_lock(self._path)
        try:
            self._refuse_other_content()
        except BaseException:
            os.close(self._file)
            raise
        self._held: set[int] = set()
        self._count = 0
        self.shard_size = 0
        """Rows of a shard, the same in all builders."""

    def __enter__(self) -> "Claims":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    @contextmanager
    def gate(self) -> Iterator[None]:
        """Only one process is inside; it sees the files that those before it wrote."""
        self._lock(_GATE)
        try:
            listed(self._path.parent)
            yield
        finally:
            self._lock(_GATE, fcntl.LOCK_UN)

    def alone(self) -> bool:
        """Whether no other process builds; inside the gate none can begin."""
        return self._lock(_BUILDERS, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def begin(self, shard_size: int, whole: Sequence[bool]) -> None:
        """Be the first builder, after :meth:`alone` and inside the gate."""
        letters = b"".join(_DONE if one else _MISSING for one in whole)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{shard_size:>{_HEADER}}".encode() + letters, 0)
        self.join()

    def join(self) -> None:
        """Be one of the builders; inside the gate."""
        self._lock(_BUILDERS, fcntl.LOCK_SH)
        self.shard_size = int(os.pread(self._file, _HEADER, 0))
        self._count = os.fstat(self._file).st_size - _HEADER

    def wait_for_builders(self) -> None:
        """Wait, outside the gate, until no other process builds."""
        self._lock(_BUILDERS)
        self._lock(_BUILDERS, fcntl.LOCK_UN)

    def missing(self) -> list[int]:
        """Shards that nobody has finished yet, in order."""
        letters = self._letters()
        return [number for number in range(self._count) if letters[number : number + 1] != _DONE]

    def rows_done(self, total: int) -> int:
        """Rows of the finished shards, of ``total`` in all; asked for after every batch."""
        letters = self._letters()
        over = self._count * self.shard_size - total  # what the last shard lacks
        return letters.count(_DONE) * self.shard_size - over * letters.endswith(_DONE)

    def free(self) -> Iterator[int]:
        """Missing shards that no other process makes, each claimed before it is given."""
        for number in self.missing():
            if self._claim(number):
                yield number

    def done(self, number: int) -> None:
        """A claimed shard is whole, under its name."""
        os.pwrite(self._file, _DONE, _HEADER + number)
        self._held.remove(number)
        self._lock(_SHARDS + number, fcntl.LOCK_UN)

    def wait(self) -> None:
        """Wait until the process that makes the first missing shard has done so, or has ended.

        Only while this process has none claimed: else two could wait for each other.
        """
        assert not self._held
        for number in self.missing()[:1]:
            self._lock(_SHARDS + number)
            self._lock(_SHARDS + number, fcntl.LOCK_UN)

    def _refuse_other_content(self) -> None:
        """A hard link, or a file of somebody else, is not written over."""
        start = os.pread(self._file, _HEADER + 1, 0)
        if not re.fullmatch(_CONTENT, start):
            raise ValueError(
                f"{self._path} is not the lock file of a latent cache: move it away and give the "
                "same command again"
            )

    def _letters(self) -> bytes:
        return os.pread(self._file, self._count, _HEADER)

    def _claim(self, number: int) -> bool:
        """Only what is read under the lock counts: on a shared disk other reads may be old."""
        if number in self._held:  # a process never excludes itself
            return False
        if not self._lock(_SHARDS + number, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
        if os.pread(self._file, 1, _HEADER + number) == _DONE:
            self._lock(_SHARDS + number, fcntl.LOCK_UN)
            return False
        self._held.add(number)
        return True

    def _lock(self, byte: int, how: int = fcntl.LOCK_EX) -> bool:
        """Whether it was given; without LOCK_NB it waits until it is."""
        try:
            with naming(self._path):
                fcntl.lockf(self._file, how, 1, byte)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True
