# SPDX-License-Identifier: Apache-2.0
"""The training loop: batches in, better weights out, at any moment resumable."""

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
from pippin.system.sharded import gathered, whole
from pippin.system.stop import StopRequest, TrainingDivergedError, TrainingStoppedError
from pippin.training.agreement import Agreement, agree
from pippin.training.batches import BatchesAhead
from pippin.training.checkpoint import load_checkpoint
from pippin.training.config import TrainConfig
from pippin.training.ema import EMA, half_life_images
from pippin.training.gradients import Gradients, Mark
from pippin.training.optimizer import build_optimizers, rate_share, set_rates
from pippin.training.saver import Saver
from pippin.training.state import capture, put_back
from pippin.training.step_draws import StepDraws
from pippin.training.step_report import StepReport
from pippin.training.world import ALONE, World
from pippin.types import Batch

Hook = Callable[["Trainer", StepReport], None]
"""Called after each step."""


class Trainer:
    """Trains one model.

    Args:
        model: on its device, with its initial weights.
        objective: the loss.
        conditioning: says how conditions are dropped.
        config: length, batch, optimizer, EMA.
        seed: of the draws (time, noise, drops).
        folder: of the run; checkpoints go below it.
        lineage: where the model's weights come from, oldest first; it travels in every checkpoint.
        world: the processes that share each batch and take the same steps; the first one writes.
        facts: what else belongs to the weights, as JSON values; they travel alike.

    Raises:
        ConfigError: a batch that cannot be shared equally.
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
        world: World = ALONE,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        config.local_batch(world.size)  # refuses
        self.model, self.objective, self.conditioning = model, objective, conditioning
        self.config, self.seed, self.folder, self.world = config, seed, folder, world
        self.lineage, self.facts = lineage, dict(facts or {})
        self.device = next(model.parameters()).device
        self.gradients = Gradients(model, objective, config, world, lambda part: self.mark(part))
        self.ema = EMA(model, half_life_images(config.ema, config.images))
        self.extra = {
            one.name: EMA(model, half_life_images(one, config.images)) for one in config.ema_extra
        }
        """Further averages by name."""
        self._averages = {"ema": self.ema, **self.extra}
        self.optimizers = build_optimizers(model, config)
        self._saver = Saver(folder / "checkpoints", config, world)
        self.step_count = self.bad_steps = self.bad_in_a_row = 0
        self.mark: Mark = lambda _: None
        """Replace it to time a step's parts: draw, forward, backward, optimizer, ema."""
        self._draws = StepDraws(self.draw, self._computing, lambda: self.mark("draw"))
        self._stop = StopRequest()
        self._agreed = Agreement(loss=math.nan, norm=math.nan)
        """By all processes in the last step."""

    @property
    def images_seen(self) -> int:
        """Progress; the position in the data follows from it."""
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
            batches: from the image ``images_seen`` on, without end; this process's rows.
            hooks: called after each step, before its checkpoint: quick ones, such as the log.
            monitors: called after the step's checkpoint was begun, which comes to its end whatever
                they do; those of :func:`pippin.training.hooks.every` act when it is on the disk.

        Raises:
            OSError: a checkpoint could not be written; with ``checkpoint_overlap`` it is raised
                before a later step. In all processes, after the same step.
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
                self._saver.wait_quietly()
                raise

    def _steps(
        self, iterator: Iterator[Batch], hooks: Sequence[Hook], monitors: Sequence[Hook]
    ) -> None:
        source = BatchesAhead(iterator, self._computing)
        while self.step_count < self.total_steps:
            self._saver.check()
            began = time.perf_counter()
            batch, waited = source.take()
            last = self.step_count + 1 == self.total_steps
            report = self.step(batch, began, waited, None if last else source.ahead)
            for hook in hooks:
                hook(self, report)
            self._saver.end_together(self._agreed.save_failed)
            stop = self._agreed.stop if self.world.size > 1 else self._stop.signal
            saved = self._begin_save() if self._checkpoint_due() or stop else None
            for monitor in monitors:
                monitor(self, report)
            if self.world.size == 1:
                stop = self._stop.signal
            if stop is not None:
                path = saved or self._begin_save()
                self._saver.settle()
                raise TrainingStoppedError(stop, path)
        self._saver.settle()

    def _checkpoint_due(self) -> bool:
        """At the first step at or past each multiple of ``checkpoint_every``, and at the end."""
        every, batch = self.config.checkpoint_every, self.config.batch_size
        crossed = self.images_seen // every > (self.images_seen - batch) // every
        return crossed or self.step_count == self.total_steps

    def step(
        self,
        batch: Batch,
        began: float,
        waited: float,
        ahead: Callable[[], tuple[Batch | None, float]] | None = None,
    ) -> StepReport:
        """One step, or a skipped one where the loss or the gradient is not finite.

        Whether it was finite is known before the next step begins: waiting for that value is the
        one synchronisation of a step, and it makes skipping, counting and checkpoints exact: what
        goes to a card is copied without waiting. The next step's random numbers and batch are
        made before the wait, while a GPU still computes.

        Args:
            batch: the one that follows ``images_seen``; this process's rows of it.
            began: ``time.perf_counter()`` when the step began.
            waited: seconds of it spent waiting for the batch.
            ahead: fetches the next batch; gives it, if it was fetched, and the seconds in which no
                GPU computed meanwhile.
        """
        draws, late = self._draws.take(self.step_count, self._shape(batch))
        share = rate_share(self.config, self.step_count)
        set_rates(self.optimizers, share)
        part = self.world.part(self.config.batch_size)
        loss = self.gradients.backward(batch, draws.rows(part))
        limit = math.inf if self.config.grad_clip is None else self.config.grad_clip
        norm = whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        self.mark("optimizer")
        following, idle = ahead() if ahead is not None else (None, 0.0)
        shape, known = self._shape(following or batch), following is not None
        late += idle + self._draws.ahead(self.step_count + 1, shape, known=known)
        agreed = agree(self.world, loss, norm, self._stop.signal, self._saver.failed)
        self._agreed = agreed
        finite = self._apply(math.isfinite(agreed.loss) and math.isfinite(agreed.norm))
        return StepReport(
            images_seen=self.images_seen,
            loss=agreed.loss,
            grad_norm=agreed.norm,
            learning_rate=share * self.config.learning_rate,
            finite=finite,
            bad_steps=self.bad_steps,
            data_seconds=waited + late,
            step_seconds=time.perf_counter() - began,
        )

    def _shape(self, batch: Batch) -> tuple[int, ...]:
        """Of the global batch's latents, of which this process has some."""
        return (self.config.batch_size, *batch.latents.shape[1:])

    def draw(self, step: int, shape: tuple[int, ...]) -> Draws:
        """All random numbers of a step, for the global batch's latents of a shape."""
        return draw_step(
            self.objective.config,
            self.conditioning,
            shape,
            num_maskable=self.model.denoiser.num_maskable(shape),
            seed=self.seed,
            step=step,
        )

    def _computing(self) -> bool:
        """Whether a card still works on what it was given."""
        return self.device.type == "cuda" and not torch.cuda.current_stream(self.device).query()

    def _apply(self, finite: bool) -> bool:
        """Take the step, or skip and count it."""
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
                "the last checkpoint is good. Try a lower train.learning_rate, a smaller "
                "train.grad_clip, denoiser.qk_norm True or train.precision fp32"
            )
        return finite

    def save(self) -> Path:
        """Write a checkpoint of this moment; it is there when this returns, in all processes."""
        path = self._begin_save()
        self._saver.settle()
        return path

    def wait_until_saved(self) -> None:
        """Until the last checkpoint is there, see :meth:`pippin.training.saver.Saver.wait`."""
        self._saver.wait()

    def _begin_save(self) -> Path:
        """Write a checkpoint of this moment, or begin to; the first process does."""
        state = {
            "images_seen": self.images_seen,
            "step": self.step_count,
            "bad_steps": self.bad_steps,
            "bad_in_a_row": self.bad_in_a_row,
            "seed": self.seed,  # with the step, this is the whole random state
            "lineage": list(self.lineage),
            **self.facts,
        }
        self._saver.save(
            lambda: capture(
                self.model,
                self._averages,
                self.optimizers,
                state,
                keep=self.world.first,
                apart=self._saver.overlap,
            )
        )
        return self._saver.folder / str(self.images_seen)

    @contextmanager
    def averaged(self, build: Callable[[], LatentDenoiser]) -> Iterator[LatentDenoiser | None]:
        """The model with the averaged weights, in the first process; None in the others, which
        must take part where each holds a share.

        Args:
            build: a model of the same shape, for weights that are gathered from all.
        """
        if not self.gradients.sharded:
            if not self.world.first:
                yield None
                return
            with self.ema.swapped_into(self.model):
                yield self.model
            return
        weights = gathered(self.ema.weights, keep=self.world.first)
        model = build() if self.world.first else None
        if model is not None:
            model.load_state_dict(weights)
        yield model

    def restore(self, path: Path, *, verified: bool = False) -> None:
        """Go on from a checkpoint: weights, averages, optimizer, position, counters.

        Args:
            path: its folder.
            verified: see :func:`pippin.training.checkpoint.load_checkpoint`.

        Raises:
            ValueError: it has other averages than this trainer.
        """
        checkpoint = load_checkpoint(path, verified=verified)
        put_back(checkpoint, path, self.model, self._averages, self.optimizers)
        self.step_count = checkpoint.state["step"]
        self.bad_steps = checkpoint.state["bad_steps"]
        self.bad_in_a_row = checkpoint.state["bad_in_a_row"]
        self.lineage = tuple(checkpoint.state.get("lineage", ()))
