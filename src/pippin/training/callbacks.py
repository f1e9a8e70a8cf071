# SPDX-License-Identifier: Apache-2.0
"""Callbacks of a training: code of programs, trackers and the printed progress."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.config import suggest_names
from pippin.recipes.recipe import Recipe
from pippin.training.monitor import StepRecord


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """State of a run when its training starts or resumes."""

    recipe: Recipe
    folder: Path
    """The run folder."""
    images_seen: int
    """0, or the images seen at the resumed checkpoint."""
    images: int
    """Images seen at the end of the run."""
    parameters: int
    """Number of the model's parameters."""
    world_size: int


class Callback:
    """Base class of callbacks, whose methods do nothing: override those that you need.

    They are called on rank 0, in the thread that trains, and training waits for them. An exception
    ends the training; its notes name the callback and the method. None is called where a resumed
    run has nothing left to do.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse methods that would never be called.

        Raises:
            TypeError: a method is named ``on_...`` like none of this class.
        """
        super().__init_subclass__(**options)
        known = [name for name in vars(Callback) if name.startswith("on_")]
        for name in vars(cls):
            if name.startswith("on_") and name not in known:
                raise TypeError(
                    f"{cls.__qualname__}.{name} would never be called: callbacks have "
                    f"{', '.join(known)}{suggest_names(name, known)}"
                )

    def on_start(self, start: RunStart) -> None:
        """Training starts or resumes."""

    def on_step(self, record: StepRecord) -> None:
        """A step ended, also one that was skipped because it was not finite."""

    def on_log(self, images_seen: int, values: Mapping[str, float]) -> None:
        """A line was written to log.jsonl: images_per_second, data_wait, and over the finite steps
        loss and grad_norm, as means since the line before; loss and grad_norm are absent if no
        step was finite. learning_rate and bad_steps are those of the newest step."""

    def on_checkpoint(self, path: Path) -> None:
        """A checkpoint is on disk; ``path`` is its folder."""

    def on_validation(self, images_seen: int, values: Mapping[str, float]) -> None:
        """The averaged weights were validated, held_out_loss, or sampled from: kid, fd and others
        with their intervals."""

    def on_preview(self, images_seen: int, path: Path) -> None:
        """A grid of samples was written."""

    def on_end(self, error: BaseException | None) -> None:
        """Training ended: None = the run is finished; TrainingStoppedError = a signal stopped it,
        and it can resume. Called for every callback whose on_start returned."""


class Callbacks:
    """Several callbacks, called in order.

    Args:
        callbacks: instances of :class:`Callback`.

    Raises:
        TypeError: another object.
    """

    def __init__(self, callbacks: Iterable[object] = ()) -> None:
        own: list[Callback] = []
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(
                    "callbacks must be instances of subclasses of pippin.Callback; got "
                    f"{callback!r}"
                )
            own.append(callback)
        self.callbacks = tuple(own)

    def call(self, method: str, *arguments: Any) -> None:
        """Call a method of each.

        Raises:
            Exception: as a callback raised it, with a note that names the callback.
        """
        for callback in self.callbacks:
            _call(callback, method, *arguments)

    def step(self, record: StepRecord) -> None:
        """Call ``on_step`` of each: a hook of the training loop."""
        self.call("on_step", record)

    @contextmanager
    def running(self, start: RunStart) -> Iterator[None]:
        """Call ``on_start`` of each before the body, and ``on_end`` in reverse order after it."""
        with ExitStack() as stack:
            for callback in self.callbacks:
                _call(callback, "on_start", start)
                stack.push(lambda kind, error, trace, own=callback: _call(own, "on_end", error))
            yield


def _call(callback: Callback, method: str, *arguments: Any) -> None:
    try:
        getattr(callback, method)(*arguments)
    except Exception as error:
        error.add_note(f"raised by the callback {type(callback).__qualname__}, in {method}")
        raise
