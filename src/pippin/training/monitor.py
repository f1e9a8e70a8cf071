# SPDX-License-Identifier: Apache-2.0
"""Record of a training step, and the hooks and monitors that a loop calls after it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pippin.distributed.world import World
from pippin.model import LatentDenoiser
from pippin.training.ema import EMA


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """Measurements of one step."""

    images_seen: int
    """Images seen at the end of the step."""
    batch_size: int
    """Images of the step, on all ranks."""
    loss: float
    """Mean over the global batch."""
    parts: dict[str, float] = field(default_factory=dict)
    """Parts of the loss that are logged by themselves, such as ``repa``."""
    grad_norm: float
    """Norm before clipping."""
    learning_rate: float
    finite: bool
    """False: loss or gradient is not finite, and the step was skipped."""
    bad_steps: int
    """Number of steps skipped so far."""
    data_seconds: float
    """Time spent waiting for the batch and for random numbers."""
    step_seconds: float
    """Total time, waiting included."""
    stop: int | None = None
    """Signal received by any of several ranks; a single process checks its own."""
    save_failed: bool = False
    """Whether rank 0 of several failed to save a checkpoint."""


def reaches(images_seen: int, batch_size: int, every: int) -> bool:
    """Whether the step that ended at ``images_seen`` reached or passed a multiple of ``every``;
    0 = never."""
    return every > 0 and images_seen // every > max(0, images_seen - batch_size) // every


Hook = Callable[[StepRecord], None]
"""Called with the record of each step, such as a progress bar."""


@runtime_checkable
class Observed(Protocol):
    """The part of a trainer that monitors see."""

    world: World
    averages: dict[str, EMA]

    @property
    def images_seen(self) -> int:
        """Number of images seen."""

    def averaged(
        self, build: Callable[[], LatentDenoiser]
    ) -> AbstractContextManager[LatentDenoiser | None]:
        """See :func:`pippin.training.ema.averaged_model`."""


@runtime_checkable
class Periodic(Protocol):
    """Something that runs at the first step at or past each multiple of ``every`` images."""

    @property
    def every(self) -> int:
        """Period in images; 0 = never."""

    def done(self, images: int, /) -> bool:
        """Whether it has run at this number of images; False makes up for a kill on resume."""

    def observe(self, trainer: Observed) -> None:
        """Run once; all ranks must call it."""


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """Validation or previews, at the first step at or past each multiple of ``every`` images."""

    every: int
    """Period in images; 0 = never."""
    run: Callable[[LatentDenoiser, int], None]
    """Called on rank 0 with the averaged model and the number of images seen."""
    build: Callable[[], LatentDenoiser]
    """Builds a model of the same shape, which gathered weights need under FSDP."""
    done: Callable[[int], bool] = lambda images: True
    """Whether it has run at this number of images; False makes up for a kill on resume."""

    def observe(self, trainer: Observed) -> None:
        """Run once; all ranks must call it."""
        with trainer.averaged(self.build) as model:
            if model is not None:
                self.run(model, trainer.images_seen)
