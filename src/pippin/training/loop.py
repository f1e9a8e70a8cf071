# SPDX-License-Identifier: Apache-2.0
"""Training loop, resumable at any step, to be read from top to bottom.

:meth:`Trainer.train` repeats steps: batch, step, log, checkpoint, validation and previews, stop.
:meth:`Trainer.step` is one optimisation step: draws, forward and backward pass, clipping,
optimizer, EMA. :mod:`pippin.objective` has the draws and the loss.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pippin.conditioning.config import ConditioningConfig
from pippin.distributed.sharded_tensors import full_tensor
from pippin.distributed.world import (
    SINGLE_RANK,
    World,
    gradient_sync,
    sync_step_status,
    wrap_parallel,
)
from pippin.model import LatentDenoiser
from pippin.objective.batch_loss import BatchLoss
from pippin.objective.draws import Draws, draw_step
from pippin.objective.losses import Objective
from pippin.system.heap import retained_heap
from pippin.system.signals import StopRequest, TrainingDivergedError, TrainingStoppedError
from pippin.training.config import TrainConfig
from pippin.training.ema import EMA, averaged_model, build_averages
from pippin.training.log import RunLog, RunningMeans
from pippin.training.monitor import Hook, Periodic, StepRecord, reaches
from pippin.training.optimizer import build_optimizers, lr_multiplier, set_learning_rates
from pippin.training.prefetch import Prefetcher
from pippin.training.sharded_state import resume_state, writes_shards
from pippin.training.state import Saver, save_state
from pippin.types import Batch

Shape = tuple[int, ...]
"""(batch, channels, height, width) of the global batch's latents."""


def untimed(part: str) -> AbstractContextManager[None]:
    """Context of a part of a step when nothing measures it."""
    return nullcontext()


class Trainer:
    """Trains one model.

    Args:
        model: on its device, with its initial weights.
        objective: the loss.
        conditioning: how conditions are dropped.
        config: length, batch, optimizer, EMA.
        seed: seed of the draws (time, noise, drops).
        folder: the run folder; checkpoints go below it.
        lineage: sources of the model's weights, oldest first; saved in every checkpoint.
        record: further entries of every checkpoint's state, as JSON values.
        world: the ranks that share each batch and take the same steps; rank 0 writes.

    Raises:
        ConfigError: a batch size that is not divisible by the world size.
    """

    timed: Callable[[str], AbstractContextManager[None]]
    """Context of each part of a step: draw, forward, backward, optimizer, ema. Replace it to
    measure them."""

    def __init__(
        self,
        model: LatentDenoiser,
        objective: Objective,
        conditioning: ConditioningConfig,
        config: TrainConfig,
        *,
        seed: int,
        folder: Path,
        lineage: tuple[dict[str, Any], ...] = (),
        record: Mapping[str, Any] | None = None,
        world: World = SINGLE_RANK,
    ) -> None:
        config.local_batch(world.size)  # raises if not divisible
        self.model, self.objective, self.conditioning = model, objective, conditioning
        self.config, self.seed, self.folder, self.world = config, seed, folder, world
        self.lineage, self.record = lineage, dict(record or {})
        self.device = next(model.parameters()).device
        self._batch_loss = BatchLoss(model, objective, config.precision, config.repa)
        self._loss: nn.Module = self._batch_loss
        self._parts: dict[str, Tensor] = {}
        if world.size > 1:  # first: FSDP replaces the parameters by shards
            self._loss = wrap_parallel(self._loss, model.denoiser.blocks, world, config.parallel)
        self._parameters = list(model.parameters())  # a walk over all modules takes a while
        self.optimizers = build_optimizers(model, config, world)
        self.averages = build_averages(model, config)
        self.step_count = self.bad_steps = self.bad_in_a_row = 0
        self.log_means, self._seconds = RunningMeans(), RunningMeans()
        """Loss and gradient norm of the finite steps since the last log line; times of all."""
        self.timed = untimed
        self._drawn: dict[tuple[int, Shape], Draws] = {}
        self._shapes: set[Shape] = set()
        self.sharded = writes_shards(config, world, model, self.averages, self.optimizers)
        """Whether all ranks write checkpoints, each its shards."""
        self._saver = Saver(folder / "checkpoints", config, world, sharded=self.sharded)
        self._stop = StopRequest()

    @property
    def images_seen(self) -> int:
        """Number of images seen, which determines the position in the data."""
        return self.step_count * self.config.batch_size

    @property
    def total_steps(self) -> int:
        """See :attr:`pippin.training.config.TrainConfig.total_steps`."""
        return self.config.total_steps

    @property
    def finished(self) -> bool:
        """Whether the run is at its end."""
        return self.step_count >= self.total_steps

    @property
    def ema(self) -> EMA:
        """Main average, for validation, previews and, by default, sampling."""
        return self.averages["ema"]

    @property
    def extra(self) -> dict[str, EMA]:
        """Further averages by name."""
        return {name: ema for name, ema in self.averages.items() if name != "ema"}

    # The loop

    def train(
        self,
        batches: Iterable[Batch],
        hooks: Sequence[Hook] = (),
        monitors: Sequence[Periodic] = (),
        log: RunLog | None = None,
    ) -> None:
        """Train to the end of the run.

        Args:
            batches: this rank's rows, endless, starting at the image ``images_seen``.
            hooks: fast hooks, called after each step, before its checkpoint.
            monitors: run after the step's checkpoint is on disk; the same on all ranks.
            log: gets a line every ``log_every`` images, and each checkpoint; None on ranks other
                than 0.

        Raises:
            OSError: a checkpoint could not be written, on all ranks after the same step; with
                ``checkpoint_overlap`` before a later step.
            TrainingDivergedError: ``max_bad_steps`` non-finite steps in a row.
            TrainingStoppedError: SIGINT, SIGTERM or SIGUSR2, after a checkpoint.
        """
        self.model.train()
        self._stop = StopRequest()
        self._saver.on_saved = None if log is None else log.checkpoint
        saving = self._saver.completed_on_error(except_for=TrainingStoppedError)
        with self._stop, retained_heap(self.device), saving:
            prefetcher = Prefetcher(iter(batches), self._computing)
            while not self.finished:
                self._saver.check()
                batch, waited = prefetcher.take()
                last = self.step_count + 1 == self.total_steps
                record = self.step(batch, None if last else prefetcher, waited)
                self._log(record, log)
                for hook in hooks:
                    hook(record)
                self._saver.raise_on_all_ranks(record.save_failed)
                stop = self._stop_signal(record)
                saved = stop is not None or last or self.passed(self.config.checkpoint_every)
                if saved:
                    self._begin_save()
                for monitor in monitors:
                    if self.passed(monitor.every):
                        self.run_monitor(monitor)
                if (stop := self._stop_signal(record)) is not None:
                    if not saved:  # the signal came while a monitor ran
                        self._begin_save()
                    self._saver.finish()
                    raise TrainingStoppedError(stop, self._saver.path(self.images_seen))
            self._saver.finish()

    def step(
        self, batch: Batch, following: Prefetcher | None = None, waited: float = 0.0
    ) -> StepRecord:
        """Take one step, or skip it if the loss or the gradient is not finite.

        Finiteness is known before the next step starts: waiting for that value is the only
        synchronisation of a step (copies to a GPU are asynchronous), and it makes skipping,
        counting and checkpoints exact. The next step's batch and random numbers are prepared
        before the wait, while a GPU still computes.

        Args:
            batch: this rank's rows of the batch after ``images_seen``.
            following: source of the next batch.
            waited: seconds spent waiting for the batch.

        Raises:
            TrainingDivergedError: see :meth:`train`.
        """
        start, config = time.perf_counter() - waited, self.config
        draws, idle = self._take_draws(batch)
        loss = self.backward(batch, draws.rows(self.world.local_rows(config.batch_size)))
        with self.timed("optimizer"):
            limit = math.inf if config.grad_clip is None else config.grad_clip
            norm = torch.nn.utils.clip_grad_norm_(self._parameters, limit)
            norm = full_tensor(norm)
        idle += self._prefetch(following, batch)
        reasons = self._stop.signal, self._saver.failed
        status = sync_step_status(self.world, loss, norm, *reasons, self._parts)
        finite = math.isfinite(status.loss) and math.isfinite(status.norm)
        multiplier = lr_multiplier(config, self.step_count)
        with self.timed("optimizer"):
            set_learning_rates(self.optimizers, multiplier)
            for optimizer in self.optimizers if finite else ():
                optimizer.step()
            for parameter in self._parameters:
                parameter.grad = None
        self.step_count += 1
        with self.timed("ema"):
            for ema in self.averages.values() if finite else ():
                ema.update(self.model, batch_size=config.batch_size, images_seen=self.images_seen)
        self._count_bad_steps(finite)
        return StepRecord(
            images_seen=self.images_seen,
            batch_size=config.batch_size,
            loss=status.loss,
            parts=status.parts,
            grad_norm=status.norm,
            learning_rate=multiplier * config.learning_rate,
            finite=finite,
            bad_steps=self.bad_steps,
            data_seconds=waited + idle,
            step_seconds=time.perf_counter() - start,
            stop=status.stop,
            save_failed=status.save_failed,
        )

    # Parts of a step

    def draw(self, step: int, shape: Shape) -> Draws:
        """Draw all random numbers of a step, for the global batch's latents of a shape."""
        configs = self.objective.config, self.conditioning
        ratio = self.config.masking.ratio_at(step, self.total_steps)
        count = self.model.denoiser.num_shuffled(shape, ratio)
        return draw_step(
            *configs, shape, num_shuffled=count, mask_ratio=ratio, seed=self.seed, step=step
        )

    def backward(self, batch: Batch, draws: Draws) -> Tensor:
        """Accumulate gradients of the mean loss over the global batch, in micro-batches. Returns
        the mean over this rank's rows.

        Args:
            batch: this rank's rows.
            draws: random numbers of the same rows.
        """
        count = len(batch.index)
        size = self.config.micro_batch(count)
        total, parts = torch.zeros((), device=self.device), dict[str, Tensor]()
        for start in range(0, count, size):
            rows = slice(start, min(start + size, count))
            share = (rows.stop - start) / count
            with gradient_sync(self._loss, last=rows.stop == count):
                with self.timed("forward"):
                    loss = self._loss(batch.rows(rows), draws.rows(rows))
                with self.timed("backward"):
                    (loss if share == 1 else share * loss).backward()
            total = total + share * loss.detach()
            parts = {n: share * x + parts.get(n, 0) for n, x in self._batch_loss.logged.items()}
        self._parts = parts
        return total

    def _take_draws(self, batch: Batch) -> tuple[Draws, float]:
        """This step's draws, prefetched or made now; and the device's idle seconds."""
        shape = self._global_shape(batch)
        self._shapes.add(shape)
        key, idle = (self.step_count, shape), 0.0
        if key not in self._drawn:  # first step, restored, or another shape than expected
            idle = self._draw_ahead(*key)
        return self._drawn[key], idle

    def _prefetch(self, following: Prefetcher | None, batch: Batch) -> float:
        """Fetch the next batch if a GPU still computes, and draw for it if its shape is known or
        likely. Returns the device's idle seconds."""
        next_batch, idle = (None, 0.0) if following is None else following.prefetch()
        if next_batch is not None or len(self._shapes) == 1:
            idle += self._draw_ahead(self.step_count + 1, self._global_shape(next_batch or batch))
        return idle

    def _draw_ahead(self, step: int, shape: Shape) -> float:
        """Keep the draws of a step. Returns the device's idle seconds."""
        start = time.perf_counter()
        with self.timed("draw"):
            self._drawn = {(step, shape): self.draw(step, shape)}
        return 0.0 if self._computing() else time.perf_counter() - start

    def _global_shape(self, batch: Batch) -> Shape:
        """Shape of the global batch's latents, of which this rank holds some rows."""
        return (self.config.batch_size, *batch.latents.shape[1:])

    def _computing(self) -> bool:
        """Whether a GPU still has queued work."""
        return self.device.type == "cuda" and not torch.cuda.current_stream(self.device).query()

    def _count_bad_steps(self, finite: bool) -> None:
        self.bad_steps += not finite
        self.bad_in_a_row = 0 if finite else self.bad_in_a_row + 1
        if self.bad_in_a_row >= self.config.max_bad_steps:
            raise TrainingDivergedError(
                f"{self.bad_in_a_row} non-finite steps in a row at {self.images_seen} images; "
                "the last checkpoint is intact. Try a lower train.learning_rate, a smaller "
                "train.grad_clip, denoiser.qk_norm True or train.precision fp32"
            )

    # Between steps

    def passed(self, images: int) -> bool:
        """Whether the last step reached or passed a multiple of ``images``; 0 = never."""
        return reaches(self.images_seen, self.config.batch_size, images)

    def _log(self, record: StepRecord, log: RunLog | None) -> None:
        """Write the means since the last line, every ``log_every`` images and at the end."""
        if record.finite:
            self.log_means.add({"loss": record.loss, "grad_norm": record.grad_norm} | record.parts)
        self._seconds.add({"data": record.data_seconds, "step": record.step_seconds})
        if log is not None and (self.finished or self.passed(self.config.log_every)):
            log.step(record, self._seconds.take(), self.log_means.take())

    def _stop_signal(self, record: StepRecord) -> int | None:
        """Signal after which all ranks stop: several know it from the step that they share."""
        return record.stop if self.world.size > 1 else self._stop.signal

    def run_monitor(self, monitor: Periodic) -> None:
        """Run a monitor once the last checkpoint is on disk; all ranks take part."""
        self._saver.wait()
        monitor.observe(self)

    def is_missing(self, monitor: Periodic) -> bool:
        """Whether the run of a monitor that is due at the resumed checkpoint is missing, because
        the earlier process was killed before it; the same on all ranks."""
        due = self.passed(monitor.every) and self.world.is_rank0
        return self.world.any_rank(due and not monitor.done(self.images_seen))

    def averaged(
        self, build: Callable[[], LatentDenoiser]
    ) -> AbstractContextManager[LatentDenoiser | None]:
        """See :func:`pippin.training.ema.averaged_model`."""
        return averaged_model(self.model, self.ema, self.world, build)

    # Checkpoints

    def save(self) -> Path:
        """Save a checkpoint; it is on disk on return, on all ranks."""
        self._begin_save()
        self._saver.finish()
        return self._saver.path(self.images_seen)

    def _begin_save(self) -> None:
        """Save a checkpoint, or start to."""
        state = self.record | {
            "images_seen": self.images_seen,
            "step": self.step_count,
            "bad_steps": self.bad_steps,
            "bad_in_a_row": self.bad_in_a_row,
            "log_means": self.log_means.state_dict(),
            "seed": self.seed,  # with the step, this is the whole random state
            "lineage": list(self.lineage),
        }
        keep, to_cpu, sharded = self.world.is_rank0, self._saver.overlap, self.sharded
        trained = self.model, self.averages, self.optimizers
        self._saver.save(
            lambda: save_state(*trained, state, keep=keep, to_cpu=to_cpu, sharded=sharded)
        )

    def restore(self, path: Path, *, verified: bool = False) -> None:
        """Resume from a checkpoint: weights, averages, optimizer, position, counters.

        Args:
            path: the checkpoint folder.
            verified: see :func:`pippin.runs.checkpoint.load_checkpoint`.

        Raises:
            ValueError: its averages differ from this trainer's.
        """
        trained = self.model, self.averages, self.optimizers
        state = resume_state(path, *trained, world=self.world, verified=verified)
        self.step_count = state["step"]
        self.bad_steps = state["bad_steps"]
        self.bad_in_a_row = state["bad_in_a_row"]
        if "log_means" in state:  # absent from checkpoints of older versions
            self.log_means.load_state_dict(state["log_means"])
        self.lineage = tuple(state.get("lineage", ()))
