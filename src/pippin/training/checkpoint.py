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

from torch import Tensor

from pippin.system.files import file_digest, sync, write_json
from pippin.system.tensors import load_tensors, save_tensors

PARTS = ("model", "ema", "optimizer")
"""What every checkpoint has; further averages are called as :data:`pippin.config.WEIGHTS` says."""
RAW = "model"
FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names the file and the reason."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to go on."""

    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    """images_seen, step, bad steps, seed, lineage, half-lives of further averages, and what else
    belongs to the weights, see :class:`pippin.training.trainer.Trainer`."""
    extra: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Further averages by name."""

    @property
    def parts(self) -> dict[str, dict[str, Tensor]]:
        """Tensors by the name of their file."""
        return {part: getattr(self, part) for part in PARTS} | self.extra


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write ``folder/IMAGES_SEEN`` and remove all but the newest ``keep`` checkpoints.

    Raises:
        OSError: disk full or not writable; earlier checkpoints are untouched.
    """
    final = folder / str(checkpoint.state["images_seen"])
    staging = folder / f".writing-{final.name}-{os.getpid()}"
    try:
        staging.mkdir(parents=True)
        _write(staging, checkpoint)
        if final.exists():  # an earlier, damaged one of the same place
            shutil.rmtree(final)
        staging.rename(final)
        sync(folder)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, OSError) and error.filename:  # the name that the user knows
            error.filename = str(error.filename).replace(str(staging), str(final))
        raise
    _prune(folder, keep)
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
    tensors = {part: load_tensors(path / f"{part}.safetensors") for part in _parts(state)}
    extra = {part: tensors.pop(part) for part in set(tensors) - set(PARTS)}
    return Checkpoint(state=state, extra=extra, **tensors)


def load_state(path: Path) -> dict[str, Any]:
    """Position, counters, lineage and checksums of one checkpoint folder.

    Raises:
        CheckpointError: not readable, or not a checkpoint.
    """
    file = path / "state.json"
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: not readable ({error})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{file}: not a pippin checkpoint of format {FORMAT}")
    digest = state.pop("state_sha256", None)  # the first checkpoints had none
    if digest not in (None, _state_digest(state)) or not isinstance(state.get("sha256"), dict):
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
    file = path / f"{names[kind]}.safetensors"
    if not verified:
        _verify(file, state["sha256"])
    return load_tensors(file)


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, the one with most images first."""
    found = [path for path in folder.glob("*") if path.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def newest_good(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and why newer ones were passed over."""
    problems = []
    for path in list_checkpoints(folder):
        try:
            _verify_all(path, load_state(path))
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    digests = {}
    for part, tensors in checkpoint.parts.items():
        file = folder / f"{part}.safetensors"
        save_tensors(file, tensors)
        digests[file.name] = file_digest(file)
    state = {"format": FORMAT, **checkpoint.state, "sha256": digests}
    write_json(folder / "state.json", state | {"state_sha256": _state_digest(state)})


def _state_digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _parts(state: dict[str, Any]) -> list[str]:
    """Names of all files of tensors, the usual ones first."""
    found = [Path(name).stem for name in state["sha256"]]
    return [*PARTS, *(name for name in found if name not in PARTS)]


def _verify_all(path: Path, state: dict[str, Any]) -> None:
    for part in _parts(state):
        _verify(path / f"{part}.safetensors", state["sha256"])


def _verify(file: Path, digests: dict[str, str]) -> None:
    if not file.is_file():
        raise CheckpointError(f"{file}: missing")
    if file_digest(file) != digests.get(file.name):
        raise CheckpointError(f"{file}: damaged (its sha256 is not the recorded one)")


def _prune(folder: Path, keep: int) -> None:
    for path in list_checkpoints(folder)[keep:]:
        shutil.rmtree(path)
    for path in folder.glob(".writing-*"):  # what a killed process left
        shutil.rmtree(path, ignore_errors=True)
