# SPDX-License-Identifier: Apache-2.0
"""Fake executions without training, importable by the processes of an executor."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

from pippin.conditioning.config import ConditioningConfig
from pippin.data.config import OpenMojiConfig
from pippin.denoisers.mmdit.config import mmdit
from pippin.evaluation.measure import Measure
from pippin.evaluation.metric_registry import find_metric
from pippin.plugins import imported_modules
from pippin.recipes.recipe import Recipe
from pippin.studies.executors import LocalExecutor
from pippin.studies.runner import run_study
from pippin.studies.shipped.demo import demo_study
from pippin.system.lock import folder_lock
from pippin.system.offline import is_offline
from pippin.system.output import lines_only, progress_hidden
from pippin.system.signals import TrainingDivergedError
from pippin.system.workers.processes import start_worker
from pippin.training.config import TrainConfig


def execute(recipe: Recipe, folder: Path) -> list[Measure]:
    """Return a number that depends on the seed, and write start and end times to the folder. Seed
    1 of the first arm is killed, and that of the second arm raises."""
    attention = recipe.conditioning.rules["label"] == "attention"
    if recipe.seed == 1 and not attention:
        os.kill(os.getpid(), signal.SIGKILL)
    if recipe.seed == 1:
        raise OSError("disk on fire")
    (folder / "began").write_text(str(time.time()))
    time.sleep(0.5)
    (folder / "ended").write_text(str(time.time()))
    return [
        Measure(
            name="drift",
            value=0.1 * recipe.seed + attention,
            low=None,
            high=None,
            interval_over="none",
            n=4,
            unit="distance",
            better="lower",
        )
    ]


def worker_state(metric: str) -> dict[str, object]:
    """State that a worker has from its parent: switches, progress bars, imports, and a metric's
    words."""
    return {
        "offline": is_offline(),
        "hub": os.environ.get("HF_HUB_OFFLINE"),
        "quiet": progress_hidden(),
        "lines": lines_only(),
        "imports": imported_modules(),
        "description": find_metric(metric).description,
    }


def lock_and_wait(folder: Path) -> None:
    """Lock a folder as a run does, and wait."""
    with folder_lock(folder):
        (folder / "locked").touch()
        time.sleep(60)


def train_slowly(recipe: Recipe, folder: Path) -> list[Measure]:
    """Train with a real trainer from its newest checkpoint; ``begun`` lists the first step of each
    call, and the first one waits in it for ``signalled``. Only a signal saves a checkpoint
    before the end."""
    from small_trainer import batches, make_trainer
    from waiting import wait_for

    from pippin.runs.checkpoint import newest_intact_checkpoint

    trainer = make_trainer(folder, images=800, checkpoint_every=800)
    newest, _ = newest_intact_checkpoint(folder / "checkpoints")
    if newest is not None:
        trainer.restore(newest)
    with (folder / "begun").open("a") as file:
        file.write(f"{trainer.step_count}\n")

    def wait_in_the_first_step(*_):
        if newest is None:
            (folder / "stepping").touch()
            wait_for((folder / "signalled").exists)

    trainer.train(batches(trainer.step_count), [wait_in_the_first_step])
    return []


def pretrain(recipe: Recipe, folder: Path) -> None:
    """Create a folder once; a concurrent call raises."""
    if not (folder / "done").exists():
        folder.mkdir(parents=True)  # raises if another process does the same
        time.sleep(0.5)
        (folder / "done").touch()


def pretrain_some(recipe: Recipe, folder: Path) -> None:
    """Fail or diverge for start folders of certain names; every attempt is recorded."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "attempts").open("a") as file:
        file.write(f"{folder.name}\n")
    if folder.name.startswith("broken"):
        raise ValueError("no such data")
    if folder.name.startswith("wild"):
        raise TrainingDivergedError("10 bad steps")


def wait_and_note_signals(recipe: Recipe, folder: Path) -> list[Measure]:
    """Start a data worker and wait for ever; ``stopped`` is a signal that arrived."""
    worker = multiprocessing.get_context("fork").Process(target=wait_as_worker, daemon=True)
    worker.start()
    (folder / "waiting").touch()
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            (folder / "stopped").touch()


def wait_as_worker() -> None:
    """Wait as a worker that loads data."""
    start_worker()
    time.sleep(3600)


def run_two_for_ever(folder: str) -> None:
    """Main function of a program that runs both arms of a study at a time."""
    base = Recipe(
        data=OpenMojiConfig(),
        conditioning=ConditioningConfig(),
        denoiser=mmdit("tiny"),
        train=TrainConfig(images=10_000),
    )
    study = demo_study(base, seeds=(0,), primary="drift")
    run_study(study, Path(folder), wait_and_note_signals, print, executor=LocalExecutor(2))
