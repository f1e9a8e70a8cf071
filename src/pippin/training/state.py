# SPDX-License-Identifier: Apache-2.0
"""A trainer's state as a checkpoint; ``checkpoint_overlap`` saves it during later steps."""

import errno
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pippin.distributed.sharded_tensors import gather_full_tensors, shard_like
from pippin.distributed.world import World
from pippin.runs.checkpoint import Checkpoint, save_checkpoint
from pippin.runs.folder import LOG_FILE
from pippin.runs.storage.retention import Retention
from pippin.runs.storage.sharded_checkpoint import save_sharded_checkpoint
from pippin.training.config import TrainConfig
from pippin.training.ema import EMA
from pippin.training.optimizer import optimizer_tensors, restore_optimizers

MAX_NAMES = 5
"""Number of tensors that an error lists."""
RESUME_RUN = "pippin train --config RUN/config.json --resume True --folder RUN"
"""Command that resumes a run with the settings of its training."""


def save_state(
    model: nn.Module,
    averages: Mapping[str, EMA],
    optimizers: Sequence[Optimizer],
    state: dict[str, Any],
    *,
    keep: bool,
    to_cpu: bool,
    sharded: bool = False,
) -> Checkpoint:
    """Checkpoint of the current state; all ranks that share tensors must call it.

    Args:
        model: the raw weights.
        averages: by file name, ``ema`` among them.
        optimizers: the model's optimizers.
        state: position and counters.
        keep: False on ranks that only contribute their shard: they get no tensors.
        to_cpu: copy the tensors to CPU memory, so that no later step changes them.
        sharded: give every rank its own tensors, as they are, in place of the above.
    """

    def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if sharded:
            return dict(tensors)
        return gather_full_tensors(tensors, keep=keep, to_cpu=to_cpu)

    averaged = {name: gathered(ema.weights) for name, ema in averages.items()}
    half_lives = {
        name: ema.half_life
        for name, ema in averages.items()
        if name != "ema" and ema.half_life is not None
    }
    return Checkpoint(
        model=gathered(model.state_dict()),
        ema=averaged.pop("ema"),
        optimizer=gathered(optimizer_tensors(model, optimizers)),
        extra=averaged,
        state=state | ({"half_lives": half_lives} if half_lives else {}),
    )


def restore_state(
    checkpoint: Checkpoint,
    path: Path,
    model: nn.Module,
    averages: Mapping[str, EMA],
    optimizers: Sequence[Optimizer],
    *,
    command: str = RESUME_RUN,
) -> None:
    """Load a checkpoint, read from ``path``, into a model, its averages and its optimizers.

    Args:
        checkpoint: the checkpoint.
        path: its place, for messages.
        model, averages, optimizers: as of :func:`save_state`.
        command: command that resumes with the right settings, for messages.

    Raises:
        ValueError: other averages, or tensors of another model; nothing is changed.
    """
    refuse_other_tensors(checkpoint, path, model, averages, command=command)
    current = model.state_dict()
    model.load_state_dict(
        {name: shard_like(x, current[name]) for name, x in checkpoint.model.items()}
    )
    for name, ema in averages.items():
        ema.restore(checkpoint.ema if name == "ema" else checkpoint.extra[name])
    restore_optimizers(model, optimizers, checkpoint.optimizer)


def refuse_other_tensors(
    checkpoint: Checkpoint,
    path: Path,
    model: nn.Module,
    averages: Mapping[str, EMA],
    *,
    command: str = RESUME_RUN,
) -> None:
    """Refuse a checkpoint with other averages, or of another model; arguments and errors as of
    :func:`restore_state`."""
    if set(checkpoint.extra) | {"ema"} != set(averages):
        saved, expected = (
            ", ".join(sorted(set(names) - {"ema"})) or "none"
            for names in (checkpoint.extra, averages)
        )
        raise ValueError(
            f"{path} has the further averages: {saved}; train.ema_extra names: {expected}. "
            "Averages start with the first step: resume with the saved ones in --train.ema-extra, "
            "or in --train.snapshot-widths with --train.snapshot-every"
        )
    _refuse_other_shapes(checkpoint, path, model.state_dict(), command)


def _refuse_other_shapes(
    checkpoint: Checkpoint, path: Path, current: Mapping[str, Tensor], command: str
) -> None:
    saved = {name: tuple(tensor.shape) for name, tensor in checkpoint.model.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in current.items()}
    differing = sorted(
        name for name in {**saved, **expected} if saved.get(name) != expected.get(name)
    )
    if differing:
        lines = "".join(
            f"\n  {name}: {saved.get(name, 'absent')} saved, {expected.get(name, 'absent')} here"
            for name in differing[:MAX_NAMES]
        )
        raise ValueError(
            f"{path} is of another model; tensors that differ: {len(differing)}{lines}\n"
            f"resume with the settings and classes of its training: {command}"
        )


class Saver:
    """Saves checkpoints, one at a time: synchronously, or in a background thread.

    All ranks make the same calls. Rank 0 writes, or all ranks do; if one fails, all ranks raise an
    OSError after the same step, so that none waits for one that has exited.

    Args:
        folder: the run's checkpoint folder.
        config: which checkpoints are kept, and whether to save asynchronously.
        world: the ranks.
        sharded: whether all ranks write, see ``train.checkpoint_format``.
    """

    def __init__(
        self, folder: Path, config: TrainConfig, world: World, *, sharded: bool = False
    ) -> None:
        self.folder, self.world, self.sharded = folder, world, sharded
        self.overlap = config.checkpoint_overlap
        self.keep = Retention(
            newest=config.keep_checkpoints,
            every=config.keep_every,
            best=config.keep_best,
            log=folder.parent / LOG_FILE,
        )
        self._thread: Thread | None = None
        self._failure: BaseException | None = None
        self.on_saved: Callable[[Path], None] | None = None
        """Called on rank 0, in the thread that trains, when a checkpoint is on disk."""
        self._saved: deque[Path] = deque()

    @property
    def failed(self) -> bool:
        """Whether a save failed and the error has not been raised yet."""
        return self._failure is not None

    def path(self, images_seen: int) -> Path:
        """Folder of a checkpoint."""
        return self.folder / str(images_seen)

    def save(self, build_checkpoint: Callable[[], Checkpoint]) -> None:
        """Save a checkpoint, or start to; it is on disk after :meth:`finish`.

        Args:
            build_checkpoint: called on all ranks after the previous checkpoint is written, so that
                only one copy is in memory. With ``overlap`` its tensors must not be changed.

        Raises:
            OSError: disk full or not writable; earlier checkpoints are untouched.
        """
        self.wait()
        checkpoint = build_checkpoint()
        if self.sharded:
            self._write(checkpoint)
        elif self.world.is_rank0 and not self.failed:
            if self.overlap:
                # Not a daemon: the thread finishes even if the program ends.
                self._thread = Thread(
                    target=self._write_in_thread, args=(checkpoint,), name="checkpoint"
                )
                self._thread.start()
            else:
                self._write(checkpoint)
        if not self.overlap:
            self.raise_on_all_ranks(self.world.any_rank(self.failed))
            self._report()

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk; only rank 0 waits.

        Raises:
            OSError: it could not be written. With several ranks all raise it, after the next
                step.
        """
        self._join()
        self.check()

    def check(self) -> None:
        """Raise an earlier failure before the next step, in a run with a single process, and
        report a checkpoint that has been written since."""
        if self.world.size == 1:
            self._raise_failure()
        self._report()

    def finish(self) -> None:
        """Wait on all ranks until the last checkpoint is on disk.

        Raises:
            OSError: it could not be written.
        """
        self._join()
        self.raise_on_all_ranks(self.world.any_rank(self.failed))
        self._report()

    def raise_on_all_ranks(self, failed: bool) -> None:
        """Raise on all ranks once they share that rank 0 failed to save."""
        if failed:
            self._raise_failure()
            raise OSError(errno.ECANCELED, "rank 0 failed to save the checkpoint; see its log")

    @contextmanager
    def completed_on_error(self, *, except_for: type[Exception]) -> Iterator[None]:
        """Wait for the last checkpoint while any error but ``except_for`` propagates; a failed
        save is then only a warning."""
        try:
            yield
        except except_for:
            raise
        except BaseException:
            self._join()
            try:
                self._raise_failure()
            except Exception as error:
                warnings.warn(f"a checkpoint was not saved: {error}", stacklevel=2)
            raise

    def _report(self) -> None:
        while self._saved:
            path = self._saved.popleft()
            if self.on_saved is not None:
                self.on_saved(path)

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            if self.sharded:
                save_sharded_checkpoint(self.folder, checkpoint, keep=self.keep, world=self.world)
            else:
                save_checkpoint(self.folder, checkpoint, keep=self.keep)
            self._saved.append(self.path(checkpoint.state["images_seen"]))
        except Exception as error:  # raised once all ranks know
            self._failure = error

    def _write_in_thread(self, checkpoint: Checkpoint) -> None:
        try:
            save_checkpoint(self.folder, checkpoint, keep=self.keep)
            self._saved.append(self.path(checkpoint.state["images_seen"]))
        except BaseException as error:  # raised later in the training loop
            self._failure = error
