# SPDX-License-Identifier: Apache-2.0
"""Training loop, resumable at any step."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pippin.conditioning.config import ConditioningConfig
from pippin.model import LatentDenoiser
from pippin.objective import Draws, Objective, draw_step
from pippin.system.running_means import RunningMeans
from pippin.system.sharded_tensors import full_tensor, gather_full_tensors
from pippin.system.signals import StopRequest, TrainingDivergedError, TrainingStoppedError
from pippin.training.checkpoint import load_checkpoint
from pippin.training.checkpoint_saver import Saver
from pippin.training.config import TrainConfig
from pippin.training.ema import EMA, half_life_images
from pippin.training.gradients import Gradients, Mark
from pippin.training.optimizer import build_optimizers, lr_multiplier, set_learning_rates
from pippin.training.prefetch import Prefetcher
from pippin.training.step_draws import StepDraws
from pippin.training.step_report import StepReport
from pippin.training.step_status import StepStatus, sync_step_status
from pippin.training.trainer_state import restore_state, save_state
from pippin.training.world import SINGLE_RANK, World
from pippin.types import Batch

Hook = Callable[["Trainer", StepReport], None]
"""Called after each step."""


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
        self.gradients = Gradients(model, objective, config, world, lambda part: self.mark(part))
        self.ema = EMA(model, half_life_images(config.ema, config.images))
        self.extra = {
            half_life.name: EMA(model, half_life_images(half_life, config.images))
            for half_life in config.ema_extra
        }
        """Further averages by name."""
        self._averages = {"ema": self.ema, **self.extra}
        self.optimizers = build_optimizers(model, config)
        self._saver = Saver(folder / "checkpoints", config, world)
        self.step_count = self.bad_steps = self.bad_in_a_row = 0
        self.log_means = RunningMeans()
        """Loss and gradient norm of the finite steps since the last log line."""
        self.mark: Mark = lambda _: None
        """Replaceable callback to time a step's parts: draw, forward, backward, optimizer, ema."""
        self._draws = StepDraws(self.draw, self._computing, lambda: self.mark("draw"))
        self._stop = StopRequest()
        self._status = StepStatus(loss=math.nan, norm=math.nan)
        """Status of the last step, shared by all ranks."""

    @property
    def images_seen(self) -> int:
        """Number of images seen, which determines the position in the data."""
        return self.step_count * self.config.batch_size

    @property
    def total_steps(self) -> int:
        """See :attr:`pippin.training.config.TrainConfig.total_steps`."""
        return self.config.total_steps

    def train(
        self, batches: Iterable[Batch], hooks: Sequence[Hook], monitors: Sequence[Hook] = ()
    ) -> None:
        """Train to the end of the run.

        Args:
            batches: this rank's rows, endless, starting at the image ``images_seen``.
            hooks: fast hooks, such as the log, called after each step, before its checkpoint.
            monitors: hooks called after the step's checkpoint was started, which completes even if
                they fail; those of :class:`pippin.training.hooks.Every` wait until it is on disk.

        Raises:
            OSError: a checkpoint could not be written, on all ranks after the same step; with
                ``checkpoint_overlap`` before a later step.
            TrainingDivergedError: ``max_bad_steps`` non-finite steps in a row.
            TrainingStoppedError: SIGINT, SIGTERM or SIGUSR2, after a checkpoint.
        """
        self.model.train()
        self._stop = StopRequest()
        with self._stop:
            try:
                self._steps(iter(batches), hooks, monitors)
            except TrainingStoppedError:
                raise
            except BaseException:
                self._saver.wait_or_warn()
                raise

    def _steps(
        self, iterator: Iterator[Batch], hooks: Sequence[Hook], monitors: Sequence[Hook]
    ) -> None:
        prefetcher = Prefetcher(iterator, self._computing)
        while self.step_count < self.total_steps:
            self._saver.check()
            start = time.perf_counter()
            batch, waited = prefetcher.take()
            last = self.step_count + 1 == self.total_steps
            report = self.step(batch, start, waited, None if last else prefetcher.prefetch)
            if report.finite:
                self.log_means.add({"loss": report.loss, "grad_norm": report.grad_norm})
            for hook in hooks:
                hook(self, report)
            self._saver.raise_on_all_ranks(self._status.save_failed)
            stop = self._status.stop if self.world.size > 1 else self._stop.signal
            saved = self._begin_save() if self._checkpoint_due() or stop else None
            for monitor in monitors:
                monitor(self, report)
            if self.world.size == 1:
                stop = self._stop.signal
            if stop is not None:
                path = saved or self._begin_save()
                self._saver.finish()
                raise TrainingStoppedError(stop, path)
        self._saver.finish()

    def _checkpoint_due(self) -> bool:
        """Whether the step crossed a multiple of ``checkpoint_every``, or is the last."""
        every, batch = self.config.checkpoint_every, self.config.batch_size
        crossed = self.images_seen // every > (self.images_seen - batch) // every
        return crossed or self.step_count == self.total_steps

    def step(
        self,
        batch: Batch,
        start: float,
        waited: float,
        prefetch: Callable[[], tuple[Batch | None, float]] | None = None,
    ) -> StepReport:
        """Take one step, or skip it if the loss or the gradient is not finite.

        Finiteness is known before the next step starts: waiting for that value is the only
        synchronisation of a step (copies to a GPU are asynchronous), and it makes skipping,
        counting and checkpoints exact. The next step's random numbers and batch are prepared
        before the wait, while a GPU still computes.

        Args:
            batch: this rank's rows of the batch after ``images_seen``.
            start: ``time.perf_counter()`` at the start of the step.
            waited: seconds of the step spent waiting for the batch.
            prefetch: fetches the next batch; returns it, if fetched, and the GPU's idle seconds.
        """
        draws, draw_wait = self._draws.take(self.step_count, self._shape(batch))
        multiplier = lr_multiplier(self.config, self.step_count)
        set_learning_rates(self.optimizers, multiplier)
        rows = self.world.local_rows(self.config.batch_size)
        loss = self.gradients.backward(batch, draws.rows(rows))
        limit = math.inf if self.config.grad_clip is None else self.config.grad_clip
        norm = full_tensor(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        self.mark("optimizer")
        next_batch, idle = prefetch() if prefetch is not None else (None, 0.0)
        shape, known = self._shape(next_batch or batch), next_batch is not None
        draw_wait += idle + self._draws.prefetch(self.step_count + 1, shape, known=known)
        status = sync_step_status(self.world, loss, norm, self._stop.signal, self._saver.failed)
        self._status = status
        finite = self._apply(math.isfinite(status.loss) and math.isfinite(status.norm))
        return StepReport(
            images_seen=self.images_seen,
            loss=status.loss,
            grad_norm=status.norm,
            learning_rate=multiplier * self.config.learning_rate,
            finite=finite,
            bad_steps=self.bad_steps,
            data_seconds=waited + draw_wait,
            step_seconds=time.perf_counter() - start,
        )

    def _shape(self, batch: Batch) -> tuple[int, ...]:
        """Shape of the global batch's latents, of which this rank holds some rows."""
        return (self.config.batch_size, *batch.latents.shape[1:])

    def draw(self, step: int, shape: tuple[int, ...]) -> Draws:
        """Draw all random numbers of a step, for the global batch's latents of a shape."""
        return draw_step(
            self.objective.config,
            self.conditioning,
            shape,
            num_maskable=self.model.denoiser.num_maskable(shape),
            seed=self.seed,
            step=step,
        )

    def _computing(self) -> bool:
        """Whether a GPU still has queued work."""
        return self.device.type == "cuda" and not torch.cuda.current_stream(self.device).query()

    def _apply(self, finite: bool) -> bool:
        """Apply the optimizer step, or skip and count it."""
        if finite:
            for optimizer in self.optimizers:
                optimizer.step()
            self.bad_in_a_row = 0
        else:
            self.bad_steps += 1
            self.bad_in_a_row += 1
        self.model.zero_grad(set_to_none=True)
        self.mark("optimizer")
        self.step_count += 1
        if finite:
            batch = self.config.batch_size
            for ema in self._averages.values():
                ema.update(self.model, batch_size=batch, images_seen=self.images_seen)
        self.mark("ema")
        if self.bad_in_a_row >= self.config.max_bad_steps:
            raise TrainingDivergedError(
                f"{self.bad_in_a_row} non-finite steps in a row at {self.images_seen} images; "
                "the last checkpoint is intact. Try a lower train.learning_rate, a smaller "
                "train.grad_clip, denoiser.qk_norm True or train.precision fp32"
            )
        return finite

    def save(self) -> Path:
        """Save a checkpoint; it is on disk on return, on all ranks."""
        path = self._begin_save()
        self._saver.finish()
        return path

    def wait_until_saved(self) -> None:
        """Wait for the last checkpoint (:meth:`pippin.training.checkpoint_saver.Saver.wait`)."""
        self._saver.wait()

    def _begin_save(self) -> Path:
        """Save a checkpoint on rank 0, or start to."""
        state = self.record | {
            "images_seen": self.images_seen,
            "step": self.step_count,
            "bad_steps": self.bad_steps,
            "bad_in_a_row": self.bad_in_a_row,
            "log_means": self.log_means.state_dict(),
            "seed": self.seed,  # with the step, this is the whole random state
            "lineage": list(self.lineage),
        }
        self._saver.save(
            lambda: save_state(
                self.model,
                self._averages,
                self.optimizers,
                state,
                keep=self.world.is_rank0,
                apart=self._saver.overlap,
            )
        )
        return self._saver.folder / str(self.images_seen)

    @contextmanager
    def averaged(self, build: Callable[[], LatentDenoiser]) -> Iterator[LatentDenoiser | None]:
        """The model with the averaged weights on rank 0; None on other ranks, which must take part
        if the weights are sharded.

        Args:
            build: builds a model of the same shape, for weights gathered from all ranks.
        """
        if not self.gradients.sharded:
            if not self.world.is_rank0:
                yield None
                return
            with self.ema.swapped_into(self.model):
                yield self.model
            return
        weights = gather_full_tensors(self.ema.weights, keep=self.world.is_rank0)
        model = build() if self.world.is_rank0 else None
        if model is not None:
            model.load_state_dict(weights)
        yield model

    def restore(self, path: Path, *, verified: bool = False) -> None:
        """Resume from a checkpoint: weights, averages, optimizer, position, counters.

        Args:
            path: the checkpoint folder.
            verified: see :func:`pippin.training.checkpoint.load_checkpoint`.

        Raises:
            ValueError: its averages differ from this trainer's.
        """
        checkpoint = load_checkpoint(path, verified=verified)
        restore_state(checkpoint, path, self.model, self._averages, self.optimizers)
        self.step_count = checkpoint.state["step"]
        self.bad_steps = checkpoint.state["bad_steps"]
        self.bad_in_a_row = checkpoint.state["bad_in_a_row"]
        if "log_means" in checkpoint.state:  # absent from checkpoints of older versions
            self.log_means.load_state_dict(checkpoint.state["log_means"])
        self.lineage = tuple(checkpoint.state.get("lineage", ()))
