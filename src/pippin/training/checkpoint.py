# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are whole or absent.

``checkpoints/IMAGES_SEEN/`` holds model, ema, further averages and optimizer as safetensors, and
state.json with position and the sha256 of each file. It is written under a hidden name and renamed
when all of it is on disk, so a killed process never leaves a folder that looks like a checkpoint
and is none.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.system.files import file_digest, write_json
from pippin.system.flush import make_folder, sync
from pippin.system.formats import FORMATS, VERSION, FormatError, check_format
from pippin.system.json_text import parse_json
from pippin.system.regular import read_regular
from pippin.system.tensors import load_tensors, save_tensors
from pippin.training.checkpoint_folders import (
    STATE_FILE,
    TENSORS,
    list_checkpoints,
    move_aside,
    remove_aside,
    remove_checkpoint,
    remove_staging,
    staging_folder,
)

PARTS = ("model", "ema", "optimizer")
"""What every checkpoint has; further averages are called as :data:`pippin.config.WEIGHTS` says."""
RAW = "model"
KIND = "checkpoint"
"""Of :data:`pippin.system.formats.FORMATS`."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names the file and the reason."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to go on."""

    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    """images_seen, step, bad steps, seed, lineage, inputs of the run, half-lives of further
    averages."""
    extra: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Further averages by name."""

    @property
    def parts(self) -> dict[str, dict[str, Tensor]]:
        """Tensors by the name of their file."""
        return {part: getattr(self, part) for part in PARTS} | self.extra


@dataclass(frozen=True, kw_only=True)
class _Aside:
    """What stood in the place of a new checkpoint."""

    path: Path
    damaged: bool


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write ``folder/IMAGES_SEEN``, and remove older checkpoints but the newest ``keep`` in all.

    One that was there is replaced where it was whole; otherwise it is kept as
    ``damaged-IMAGES_SEEN``, and one that was kept so before is removed. Those of more images are
    left: training went on from before them, so they are damaged, or somebody's own.

    Raises:
        OSError: disk full or not writable; earlier checkpoints are untouched.
    """
    final = folder / str(checkpoint.state["images_seen"])
    staging = staging_folder(final, os.getpid())
    try:
        make_folder(folder)
        staging.mkdir()
        _write(staging, checkpoint)
        before = _moved_aside(final)
        staging.rename(final)
        sync(folder)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, OSError) and error.filename:  # the name that the user knows
            error.filename = str(error.filename).replace(str(staging), str(final))
        raise
    if before is not None and before.damaged:
        remove_aside(folder, but=before.path)
    elif before is not None:
        remove_checkpoint(before.path)
    _prune(final, keep)
    return final


def load_checkpoint(path: Path, *, verified: bool = False) -> Checkpoint:
    """Read and verify one checkpoint folder.

    Args:
        path: the folder.
        verified: :func:`newest_good` has just read all its bytes for that.

    Raises:
        CheckpointError: a part is missing, or its bytes are not those that were written.
    """
    state = load_state(path)
    if not verified:
        _verify_all(path, state)
    tensors = {part: load_tensors(path / f"{part}{TENSORS}") for part in _parts(state)}
    extra = {part: tensors.pop(part) for part in set(tensors) - set(PARTS)}
    return Checkpoint(state=state, extra=extra, **tensors)


def load_state(path: Path) -> dict[str, Any]:
    """Position, counters, lineage and checksums of one checkpoint folder.

    Raises:
        CheckpointError: not readable, or not a checkpoint.
        FormatError: of a newer version.
    """
    file = path / STATE_FILE
    try:
        state = parse_json(read_regular(file))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not readable ({error})") from error
    if not isinstance(state, dict) or VERSION not in state:
        raise CheckpointError(f"{file}: not a pippin checkpoint")
    try:
        check_format(KIND, state[VERSION], file)
    except FormatError:
        raise
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    digest = state.pop("state_sha256", None)  # the first checkpoints had none
    if digest not in (None, _state_digest(state)) or not _is_state(state):
        raise CheckpointError(f"{file}: damaged (its sha256 is not the recorded one)")
    return state


def load_weights(path: Path, kind: str, *, verified: bool = False) -> dict[str, Tensor]:
    """The weights of one checkpoint folder by their name, such as ``ema`` or ``raw``, verified.

    Args:
        path: the folder.
        kind: their name.
        verified: see :func:`load_checkpoint`.

    Raises:
        CheckpointError: damaged, or the checkpoint has none of that name; the message lists those
            that it has.
    """
    state = load_state(path)
    names = {"ema": "ema", "raw": RAW} | {part: part for part in _parts(state)[len(PARTS) :]}
    if kind not in names:
        raise CheckpointError(f"{path} has no weights {kind!r}; it has: {', '.join(names)}")
    file = path / f"{names[kind]}{TENSORS}"
    if not verified:
        _verify(file, state["sha256"])
    return load_tensors(file)


def newest_good(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and why newer ones were passed over.

    Raises:
        FormatError: one that comes before it is of a newer version.
    """
    problems: list[str] = []
    for path in list_checkpoints(folder):
        if (problem := _problem(path)) is None:
            return path, problems
        problems.append(problem)
    return None, problems


def _problem(path: Path) -> str | None:
    """Why a checkpoint cannot be used; None = it is whole."""
    try:
        _verify_all(path, load_state(path))
    except CheckpointError as error:
        return str(error)
    except OSError as error:  # of a bad disk
        return f"{error.filename or path}: not readable ({error.strerror or error})"
    return None


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    digests = {}
    for part, tensors in checkpoint.parts.items():
        file = folder / f"{part}{TENSORS}"
        save_tensors(file, tensors)
        digests[file.name] = file_digest(file)
    state = {VERSION: FORMATS[KIND], **checkpoint.state, "sha256": digests}
    write_json(folder / STATE_FILE, state | {"state_sha256": _state_digest(state)})


def _state_digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _is_state(state: dict[str, Any]) -> bool:
    """Whether it has what all readers take from it."""
    images, digests = state.get("images_seen"), state.get("sha256")
    return type(images) is int and isinstance(digests, dict)


def _parts(state: dict[str, Any]) -> list[str]:
    """Names of all files of tensors, the usual ones first."""
    found = [Path(name).stem for name in state["sha256"]]
    return [*PARTS, *(name for name in found if name not in PARTS)]


def _verify_all(path: Path, state: dict[str, Any]) -> None:
    for part in _parts(state):
        _verify(path / f"{part}{TENSORS}", state["sha256"])


def _verify(file: Path, digests: dict[str, str]) -> None:
    if not file.is_file():
        raise CheckpointError(f"{file}: missing")
    if file_digest(file) != digests.get(file.name):
        raise CheckpointError(f"{file}: damaged (its sha256 is not the recorded one)")


def _moved_aside(final: Path) -> _Aside | None:
    """Clear the place of a new checkpoint; where what stood there is now."""
    if not final.exists():
        return None
    damaged = _problem(final) is not None
    return _Aside(path=move_aside(final), damaged=damaged)


def _prune(newest: Path, keep: int) -> None:
    """Remove checkpoints that are older than ``keep`` others, of which damaged ones are none."""
    kept = 1
    for path in list_checkpoints(newest.parent):
        if int(path.name) >= int(newest.name):
            continue
        if kept >= keep:
            remove_checkpoint(path)
        elif _is_complete(path):
            kept += 1
    remove_staging(newest.parent)


def _is_complete(path: Path) -> bool:
    """Whether all files are there to their ends; what is in them is not read, for that takes
    long."""
    try:
        for part in _parts(load_state(path)):
            with safe_open(path / f"{part}{TENSORS}", framework="pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return True
