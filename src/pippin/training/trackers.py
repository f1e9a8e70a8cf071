# SPDX-License-Identifier: Apache-2.0
"""Trackers, which show the numbers and previews of runs: TensorBoard, Weights & Biases, MLflow.

A tracker is a callback. Weights & Biases and MLflow may be servers of other machines: a failure
while training ends the tracking with a message, and the training goes on; log.jsonl has all
numbers.
"""

import importlib
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from pippin.config import ConfigError, protocol
from pippin.runs.folder import TRACKER_FILE
from pippin.system.files import name_file_in_errors, write_json
from pippin.system.installation import pip_command
from pippin.system.lines import parse_object
from pippin.system.offline import is_offline
from pippin.system.output import progress_hidden
from pippin.system.redaction import redact
from pippin.system.signals import TrainingStoppedError
from pippin.system.text import print_above_progress
from pippin.training.callbacks import Callback, RunStart
from pippin.training.config import TrackerName

PROJECT = "pippin"
"""Project or experiment of runs, unless the tracker's environment variable names another."""
MAX_PARAMETERS = 100
"""Number of parameters that MLflow takes in one request."""


def build_tracker(name: TrackerName, folder: Path, resume_at: int, console: Console) -> Callback:
    """Tracker of a run.

    Args:
        name: ``train.tracker``.
        folder: the run folder.
        resume_at: images seen at the resumed checkpoint.
        console: for messages.

    Raises:
        ConfigError: its library is not installed.
    """
    if name == "none":
        return Callback()
    if name == "tensorboard":
        return TensorBoard(folder, resume_at)
    check_tracker(name)
    return (WandB if name == "wandb" else MLflow)(folder, console)


def check_tracker(name: TrackerName) -> None:
    """Check that a tracker's library is installed.

    Raises:
        ConfigError: it is not; the message has the command that installs it.
    """
    if name not in ("wandb", "mlflow"):
        return
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"train.tracker {name} needs the package {name}, which cannot be imported ({error}); "
            f"type: {pip_command(name)}, or choose --train.tracker tensorboard or none"
        ) from error


class TensorBoard(Callback):
    """Events for TensorBoard in the run folder.

    Args:
        folder: the run folder.
        resume_at: images seen at the resumed checkpoint; later events are hidden.
    """

    def __init__(self, folder: Path, resume_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._events = folder / "tensorboard"
        _silence_writer_thread()
        with name_file_in_errors(self._events):
            self._board: Any = SummaryWriter(self._events, purge_step=resume_at + 1)

    def on_log(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Write each number.

        Raises:
            OSError: disk full or not writable; the error names the folder.
        """
        with name_file_in_errors(self._events):
            for name, value in values.items():
                self._board.add_scalar(name, value, images_seen)

    def on_validation(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Write each number."""
        self.on_log(images_seen, values)

    def on_preview(self, images_seen: int, path: Path) -> None:
        """Write the grid."""
        import numpy as np
        from PIL import Image

        with name_file_in_errors(self._events), Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
            self._board.add_image("preview", pixels, images_seen, dataformats="HWC")

    def on_end(self, error: BaseException | None) -> None:
        """Flush and close."""
        self.close()

    def close(self) -> None:
        """Flush and close."""
        with name_file_in_errors(self._events):
            self._board.close()


class _Remote(Callback):
    """Tracker whose library may talk to a server.

    Args:
        folder: the run folder.
        console: for messages.
    """

    kind: str
    advice: str
    """Advice for a tracker that cannot start."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder, self.console = folder, console
        self._stopped = False

    def on_start(self, start: RunStart) -> None:
        """Start the run, or continue that of the earlier process.

        Raises:
            ConfigError: the library refuses it, as without a login.
        """
        ids = _read_ids(self.folder)
        known = ids.get(self.kind) if start.images_seen else None
        try:
            new = self._begin(start, known)
        except Exception as error:
            raise ConfigError(
                f"train.tracker {self.kind} cannot start: {redact(error)}; {self.advice}, or "
                "choose --train.tracker tensorboard or none"
            ) from error
        write_json(self.folder / TRACKER_FILE, ids | {self.kind: new})

    def _begin(self, start: RunStart, known: str | None) -> str:
        """Start or continue a run; returns its id."""
        raise NotImplementedError

    def _send(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Call a function of the library, unless it failed before."""
        if self._stopped:
            return
        try:
            function(*arguments, **options)
        except Exception as error:  # libraries raise what they like; the training must not end
            self._stopped = True
            text = f"{type(error).__name__}: {redact(error)}; log.jsonl has all numbers"
            print_above_progress(self.console, text, label=f"{self.kind} stopped:")


class WandB(_Remote):
    """Run of Weights & Biases; its files are in ``RUN/wandb``.

    ``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_MODE`` and its other variables apply. Offline mode
    writes files only, for ``wandb sync``.
    """

    kind = "wandb"
    advice = "type: wandb login, or export WANDB_MODE=offline"

    def _begin(self, start: RunStart, known: str | None) -> str:
        import wandb

        self._wandb, identity = wandb, known or secrets.token_hex(4)
        quiet = progress_hidden()
        self._run: Any = wandb.init(
            id=identity,
            resume="allow",
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", self.folder.name),
            dir=str(self.folder),
            config=start.recipe.to_dict(),
            mode="offline" if is_offline() else None,
            # Our lines stay as they are.
            settings=wandb.Settings(console="off", **({"silent": True} if quiet else {})),
        )
        self._run.define_metric("images")
        self._run.define_metric("*", step_metric="images")  # a resumed run may repeat some
        return identity

    def on_log(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Log the numbers against images."""
        self._send(self._run.log, {"images": images_seen, **values})

    def on_validation(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Log the numbers against images."""
        self.on_log(images_seen, values)

    def on_preview(self, images_seen: int, path: Path) -> None:
        """Log the grid."""
        self._send(
            lambda: self._run.log({"images": images_seen, "preview": self._wandb.Image(str(path))})
        )

    def on_end(self, error: BaseException | None) -> None:
        """Finish the run."""
        self._send(self._run.finish, exit_code=0 if error is None else 1)


class MLflow(_Remote):
    """Run of MLflow, at ``MLFLOW_TRACKING_URI``; without it, or in offline mode, in the files of
    ``RUN/mlflow``. ``MLFLOW_EXPERIMENT_NAME`` applies."""

    kind = "mlflow"
    advice = "type: unset MLFLOW_TRACKING_URI, to write into the run folder"

    def _begin(self, start: RunStart, known: str | None) -> str:
        import mlflow

        self._mlflow, self._client = mlflow, mlflow.MlflowClient(tracking_uri=self._uri())
        if known is not None:
            self._client.update_run(known, status="RUNNING")
            self._id = known
            return known
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self._id = str(self._client.create_run(place, run_name=self.folder.name).info.run_id)
        settings = [
            mlflow.entities.Param(path, str(value))
            for path, value in protocol(start.recipe).items()
        ]
        for first in range(0, len(settings), MAX_PARAMETERS):
            self._client.log_batch(self._id, params=settings[first : first + MAX_PARAMETERS])
        return self._id

    def _uri(self) -> str:
        given = os.environ.get("MLFLOW_TRACKING_URI")
        if given and not is_offline():
            return given
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # version 3.8 and later ask
        return (self.folder / "mlflow").absolute().as_uri()

    def on_log(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Log the finite numbers, with images as steps."""
        now = round(1000 * time.time())
        metrics = [
            self._mlflow.entities.Metric(name, float(value), now, images_seen)
            for name, value in values.items()
            if math.isfinite(value)
        ]
        self._send(self._client.log_batch, self._id, metrics=metrics)

    def on_validation(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Log the finite numbers, with images as steps."""
        self.on_log(images_seen, values)

    def on_preview(self, images_seen: int, path: Path) -> None:
        """Log the grid as an artifact."""
        self._send(self._client.log_artifact, self._id, str(path), "previews")

    def on_end(self, error: BaseException | None) -> None:
        """Set the state of the run."""
        stopped = isinstance(error, TrainingStoppedError | KeyboardInterrupt)
        state = "FINISHED" if error is None else "KILLED" if stopped else "FAILED"
        self._send(self._client.set_terminated, self._id, state)


def _read_ids(folder: Path) -> dict[str, str]:
    """Ids by tracker; none if the file is missing or damaged."""
    try:
        ids = parse_object((folder / TRACKER_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(name): str(identity) for name, identity in ids.items()}


@cache
def _silence_writer_thread() -> None:
    """Suppress the traceback of TensorBoard's thread on a full disk: its next write raises."""
    previous = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        is_writer = type(args.thread).__name__ == "_AsyncWriterThread"
        if not (is_writer and isinstance(args.exc_value, OSError)):
            previous(args)

    threading.excepthook = hook
