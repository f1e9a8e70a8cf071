# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are written while the next steps are computed."""

import warnings
from pathlib import Path
from threading import Thread

from pippin.training.checkpoint import Checkpoint, save_checkpoint


class Saver:
    """Writes checkpoints, one at a time: in place, or in a thread of its own.

    Args:
        folder: of the run's checkpoints.
        keep: how many of the newest ones stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread: Thread | None = None
        self._failure: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether a checkpoint could not be written, and nobody was told yet."""
        return self._failure is not None

    def write(self, checkpoint: Checkpoint) -> None:
        """In place; see :func:`pippin.training.checkpoint.save_checkpoint`. What goes wrong is
        raised by :meth:`tell`, so that several processes can end together."""
        try:
            save_checkpoint(self.folder, checkpoint, keep=self.keep)
        except Exception as error:
            self._failure = error

    def begin(self, checkpoint: Checkpoint) -> None:
        """Write beside the caller, who must leave the tensors as they are. Call :meth:`wait`
        first: before the copies are made, or there would be two of them in memory."""
        assert self._thread is None
        # Not a daemon: where the program ends, the thread still comes to its end.
        self._thread = Thread(target=self._work, args=(checkpoint,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until the checkpoint is on the disk, or it is known that it cannot be."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def tell(self) -> None:
        """Raise what went wrong, once.

        Raises:
            OSError: disk full or not writable; earlier checkpoints are untouched.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def wait_quietly(self) -> None:
        """Wait where another error is on its way; a failure is a warning."""
        self.wait()
        try:
            self.tell()
        except Exception as error:
            warnings.warn(f"a checkpoint was not written: {error}", stacklevel=2)

    def _work(self, checkpoint: Checkpoint) -> None:
        try:
            save_checkpoint(self.folder, checkpoint, keep=self.keep)
        except BaseException as error:  # whatever it is, the training loop must hear of it
            self._failure = error
