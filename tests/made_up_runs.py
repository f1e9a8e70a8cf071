# SPDX-License-Identifier: Apache-2.0
"""Executions that train nothing, importable by the processes of an executor."""

import os
import signal
import time
from pathlib import Path

from pippin.evaluation.measure import Measure
from pippin.recipes.recipe import Recipe
from pippin.system.lock import folder_lock
from pippin.training.trainer import TrainingDivergedError


def execute(recipe: Recipe, folder: Path) -> list[Measure]:
    """A number of the seed; the time at which it was made is on the disk. Seed 1 of the first arm
    is killed, and that of the second one raises."""
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


def lock_and_wait(folder: Path) -> None:
    """What a run does with its folder."""
    with folder_lock(folder):
        (folder / "locked").touch()
        time.sleep(60)


def train_slowly(recipe: Recipe, folder: Path) -> list[Measure]:
    """A real trainer, from its newest checkpoint; ``begun`` says where each call began. Only a
    signal makes a checkpoint before the end."""
    from small_trainer import batches, make_trainer

    from pippin.training.checkpoint import newest_good

    trainer = make_trainer(folder, images=800, checkpoint_every=800)
    newest, _ = newest_good(folder / "checkpoints")
    if newest is not None:
        trainer.restore(newest)
    with (folder / "begun").open("a") as file:
        file.write(f"{trainer.step_count}\n")
    pause = 0.05 if newest is None else 0.0

    def slow_step(*_):
        (folder / "stepping").touch()
        time.sleep(pause)

    trainer.train(batches(trainer.step_count), [slow_step])
    return []


def pretrain(recipe: Recipe, folder: Path) -> None:
    """Made once, or it is an error."""
    if not (folder / "done").exists():
        folder.mkdir(parents=True)  # raises where another process is at it
        time.sleep(0.5)
        (folder / "done").touch()


def pretrain_some(recipe: Recipe, folder: Path) -> None:
    """Starts named so fail, or diverge; every attempt is on the disk."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "attempts").open("a") as file:
        file.write(f"{folder.name}\n")
    if folder.name.startswith("broken"):
        raise ValueError("no such data")
    if folder.name.startswith("wild"):
        raise TrainingDivergedError("10 bad steps")
