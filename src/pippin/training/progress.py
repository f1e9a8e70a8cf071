# SPDX-License-Identifier: Apache-2.0
"""Printed progress of a training: header, bar or lines, and events."""

from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console

from pippin.config import fingerprint
from pippin.distributed.world import World
from pippin.runs.components import Components
from pippin.runs.folder import RunFolder
from pippin.runs.overview import nearest_recipe
from pippin.system.output import progress_hidden, progress_verbose
from pippin.system.progress import Progress, print_event, prints_lines
from pippin.system.rates import Facts
from pippin.training.callbacks import Callback, RunStart
from pippin.training.config import TrainConfig
from pippin.training.log import RunningMeans
from pippin.training.monitor import StepRecord

SMOOTHING = 0.98
"""Share of the earlier value in a bar's loss and throughput after each step."""


class TrainingProgress(Callback):
    """Bar of a training, or lines with the means since the line before.

    Args:
        console: where it is shown.
        progress: of the images.
    """

    def __init__(self, console: Console, progress: Progress | None = None) -> None:
        self.console, self._given = console, progress
        self._losses, self._seconds = RunningMeans(), RunningMeans()
        self._smooth: float | None = None

    def on_start(self, start: RunStart) -> None:
        """Print what starts, and show the bar."""
        millions = f"{start.parameters / 1e6:.3g} M parameters"
        seen = f" at image {start.images_seen}" if start.images_seen else ""
        verb = "resumed" if start.images_seen else "started"
        print_event(self.console, f"{verb}{seen}: {millions}, {start.images} images in all")
        self._progress = self._given or Progress(
            self.console, "training", total=start.images, done=start.images_seen
        )
        self._progress.__enter__()

    def on_step(self, record: StepRecord) -> None:
        """Report the step."""
        if record.finite:
            before = record.loss if self._smooth is None else self._smooth
            self._smooth = SMOOTHING * before + (1 - SMOOTHING) * record.loss
            self._losses.add({"loss": record.loss})
        self._seconds.add({"data": record.data_seconds, "step": record.step_seconds})
        self._newest = record
        self._progress.update(record.images_seen, facts=self._facts)

    def on_log(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Print a line for each line of the log under ``--verbose``."""
        if progress_verbose() and not self._progress.is_bar:
            self._progress.update(images_seen, facts=lambda: _logged(values), force=True)

    def on_checkpoint(self, path: Path) -> None:
        """Print the checkpoint."""
        print_event(self.console, f"checkpoint written: {path}")

    def on_validation(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Print the measured values."""
        listed = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        print_event(self.console, f"validation at image {images_seen}: {listed}")

    def on_preview(self, images_seen: int, path: Path) -> None:
        """Print the preview."""
        print_event(self.console, f"preview written: {path}")

    def on_end(self, error: BaseException | None) -> None:
        """End the bar, or print the last line of a finished training."""
        self._progress.__exit__(None if error is None else type(error), error, None)

    def _facts(self) -> Facts:
        """Means since the line before; a bar shows a smoothed loss."""
        record = self._newest
        if self._progress.is_bar:
            return _facts(self._smooth, None, None, record.bad_steps)
        losses, seconds = self._losses.take(), self._seconds.take()
        wait = seconds["data"] / seconds["step"] if seconds and seconds["step"] else None
        return _facts(losses.get("loss"), wait, record.learning_rate, record.bad_steps)


def _logged(values: Mapping[str, float]) -> Facts:
    return _facts(
        values.get("loss"),
        values.get("data_wait"),
        values.get("learning_rate"),
        int(values.get("bad_steps", 0)),
    )


def _facts(loss: float | None, wait: float | None, rate: float | None, bad_steps: int) -> Facts:
    facts = {"loss": "not finite" if loss is None else f"{loss:.4f}"}
    if wait is not None:
        facts["data wait"] = f"{100 * wait:.1f} %"
    if rate is not None:
        facts["learning rate"] = f"{rate:.2e}"
    return facts | ({"skipped steps": str(bad_steps)} if bad_steps else {})


def print_header(components: Components, run: RunFolder, world: World) -> None:
    """Print what is trained, on what, and where results go; on a terminal only under
    ``--verbose``."""
    console = components.console
    shown = prints_lines(console) or progress_verbose()
    if console.quiet or progress_hidden() or not shown:
        return
    rows = _header(components, run, world)
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {text}" for name, text in rows.items()]
    print_event(console, "\n".join([f"pippin train {run.path}", *lines]))


def _header(components: Components, run: RunFolder, world: World) -> dict[str, str]:
    """Name -> text of each row."""
    recipe, cache = components.recipe, components.located.cache
    train, (name, plus, changed) = recipe.train, nearest_recipe(recipe).partition(" + ")
    settings = f", {changed} settings changed" if plus else ""
    return {
        "recipe": f"{name}{settings}; fingerprint {fingerprint(recipe)}",
        "device": _device(components.device, world, train),
        "precision": train.precision,
        "batch": _batch(train, world),
        "steps": f"{train.total_steps}, {train.total_steps * train.batch_size} images",
        "latents": f"cached in {cache.folder}" if cache.enabled else "encoded in every step",
        "log": f"{run.log}, every {train.log_every} images; tracker {train.tracker}",
        "checkpoints": f"{run.checkpoints}, every {train.checkpoint_every} images",
        "validation": _every(train.validate_every),
        "quality": _every(train.quality_every),
        "previews": f"{run.previews}, {_every(train.preview_every)}",
    }


def _every(images: int) -> str:
    return f"every {images} images" if images else "none"


def _device(device: torch.device, world: World, train: TrainConfig) -> str:
    """Kind and number of the devices, and how they share the work."""
    if device.type == "cuda":
        name = f"cuda, {torch.cuda.get_device_name(device)}"
    else:
        name = f"{device}, threads {torch.get_num_threads()}"
    ranks = f"{world.size}, {train.parallel}" if world.size > 1 else "1"
    return f"{name}; world size {ranks}"


def _batch(train: TrainConfig, world: World) -> str:
    """Global, local and micro-batch."""
    local = train.local_batch(world.size)
    text = f"{train.batch_size} images, {local} on each rank"
    micro = train.micro_batch(local)
    return text if micro == local else f"{text} in micro-batches of {micro}"
