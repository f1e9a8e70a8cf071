# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are written while the next steps are computed."""

import errno
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from pippin.training.checkpoint import Checkpoint, save_checkpoint
from pippin.training.config import TrainConfig
from pippin.training.world import World


class Saver:
    """Writes checkpoints, one at a time: in place, or in a thread of its own.

    All processes call it alike. The first one writes; where it could not, all raise an OSError
    after the same step, so that none waits for one that has ended.

    Args:
        folder: of the run's checkpoints.
        config: how many of the newest ones stay, and whether to write beside the loop.
        world: the processes.
    """

    def __init__(self, folder: Path, config: TrainConfig, world: World) -> None:
        self.folder, self.world = folder, world
        self.keep, self.overlap = config.keep_checkpoints, config.checkpoint_overlap
        self._thread: Thread | None = None
        self._failure: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether a checkpoint could not be written, and nobody was told yet."""
        return self._failure is not None

    def save(self, take: Callable[[], Checkpoint]) -> None:
        """Write a checkpoint, or begin to, which is on the disk after :meth:`settle`.

        Args:
            take: makes it, in all processes, once the last one is written: there would be two
                copies in memory before. Nobody may change its tensors where ``overlap``.

        Raises:
            OSError: disk full or not writable; earlier checkpoints are untouched.
        """
        self.wait()
        checkpoint = take()
        if self.world.first and not self.failed:
            if self.overlap:
                # Not a daemon: where the program ends, the thread still comes to its end.
                self._thread = Thread(target=self._work, args=(checkpoint,), name="checkpoint")
                self._thread.start()
            else:
                self._write(checkpoint)
        if not self.overlap:
            self.end_together(self.world.any(self.failed))

    def wait(self) -> None:
        """Until the last checkpoint is on the disk; the processes that do not write do not wait.

        Raises:
            OSError: it could not be written. Of several processes all raise it, after the next
                step.
        """
        self._join()
        self.check()

    def check(self) -> None:
        """One process alone raises what went wrong before its next step."""
        if self.world.size == 1:
            self._tell()

    def settle(self) -> None:
        """Until the last checkpoint is on the disk, in all processes.

        Raises:
            OSError: it could not be written.
        """
        self._join()
        self.end_together(self.world.any(self.failed))

    def end_together(self, failed: bool) -> None:
        """Raise in all processes where all know that the first one could not write."""
        if failed:
            self._tell()
            raise OSError(
                errno.ECANCELED, "the first process could not write a checkpoint: see there"
            )

    def wait_quietly(self) -> None:
        """Wait where another error is on its way; a failure is a warning."""
        self._join()
        try:
            self._tell()
        except Exception as error:
            warnings.warn(f"a checkpoint was not written: {error}", stacklevel=2)

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _tell(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            save_checkpoint(self.folder, checkpoint, keep=self.keep)
        except Exception as error:  # raised when all know of it
            self._failure = error

    def _work(self, checkpoint: Checkpoint) -> None:
        try:
            save_checkpoint(self.folder, checkpoint, keep=self.keep)
        except BaseException as error:  # whatever it is, the training loop must hear of it
            self._failure = error
