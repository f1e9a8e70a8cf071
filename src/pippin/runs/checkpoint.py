# SPDX-License-Identifier: Apache-2.0
"""Save and load checkpoints, each of which is complete or absent.

``checkpoints/IMAGES_SEEN/`` holds model, ema, further averages and optimizer as safetensors, and
state.json with the position and the sha256 of each file. It is written under a hidden name and
renamed when all of it is on disk, so a killed process never leaves a partial checkpoint.

A sharded one, which :mod:`pippin.runs.storage.sharded_checkpoint` writes, has a file of each part
for every rank that wrote it. All functions here read both.
"""

import itertools
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.runs.checkpoint_folders import (
    TENSORS,
    final_path,
    has_all_files,
    list_checkpoints,
    make_staging,
    move_aside,
    remove_aside,
    remove_checkpoint,
    staging_folder,
)
from pippin.runs.checkpoint_state import (
    PARTS,
    UNSHARDED,
    CheckpointError,
    load_state,
    part_files,
    weight_names,
    write_state,
)
from pippin.runs.storage.part_files import load_part
from pippin.runs.storage.retention import Retention
from pippin.system.files import file_digest, sync
from pippin.system.lock import FolderBusyError, lock_directory
from pippin.system.tensors import save_tensors


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State from which a run resumes."""

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
        """Tensors by file name."""
        return {part: getattr(self, part) for part in PARTS} | self.extra


@dataclass(frozen=True, kw_only=True)
class _Replaced:
    """Earlier checkpoint at the path of a new one."""

    path: Path
    damaged: bool


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int | Retention) -> Path:
    """Write ``folder/IMAGES_SEEN``, and keep the newest ``keep`` checkpoints in all, or those of a
    rule.

    An intact checkpoint of the same name is replaced; a damaged one is kept as
    ``damaged-IMAGES_SEEN``, and earlier damaged ones are removed. Checkpoints of more images
    stay: training resumed before them, so they are damaged or belong to the user. So do
    checkpoints that another process reads, until a later save.

    Raises:
        OSError: disk full or not writable; earlier checkpoints are untouched.
    """
    final = folder / str(checkpoint.state["images_seen"])
    staging = staging_folder(final, os.getpid())
    try:
        make_staging(staging)
        digests = _write_tensors(staging, checkpoint)
        write_state(staging, checkpoint.state, digests, version=UNSHARDED)
        complete_checkpoint(staging, final, keep=keep)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        name_final_path(error)
        raise
    return final


def name_final_path(error: BaseException) -> None:
    """Name the path known to the user in an error of the file system."""
    if isinstance(error, OSError) and error.filename:
        error.filename = final_path(str(error.filename))


def complete_checkpoint(staging: Path, final: Path, *, keep: int | Retention) -> None:
    """Give a written checkpoint its name, and remove those that a rule does not keep; see
    :func:`save_checkpoint`."""
    replaced = _move_existing(final)
    staging.rename(final)
    sync(final.parent)
    if replaced is not None and replaced.damaged:
        remove_aside(final.parent, except_for=replaced.path)
    elif replaced is not None:
        remove_checkpoint(replaced.path)
    _prune(final, Retention(newest=keep) if isinstance(keep, int) else keep)


def load_checkpoint(path: Path, *, verified: bool = False) -> Checkpoint:
    """Read and verify one checkpoint folder.

    Args:
        path: the folder.
        verified: :func:`newest_intact_checkpoint` has just verified it.

    Raises:
        CheckpointError: a file is missing, or its sha256 differs.
    """
    state = load_state(path)
    if not verified:
        check_intact(path, state)
    tensors = {part: load_part(path, part, files) for part, files in part_files(state).items()}
    extra = {part: tensors.pop(part) for part in set(tensors) - set(PARTS)}
    return Checkpoint(state=state, extra=extra, **tensors)


def load_weights(path: Path, kind: str, *, verified: bool = False) -> dict[str, Tensor]:
    """Load and verify the weights of one checkpoint folder by name, such as ``ema`` or ``raw``.

    Args:
        path: the folder.
        kind: name of the weights.
        verified: see :func:`load_checkpoint`.

    Raises:
        CheckpointError: damaged, or no weights of that name; the message lists the available ones.
    """
    state = load_state(path)
    names = weight_names(state)
    if kind not in names:
        raise CheckpointError(f"{path} has no weights {kind!r}; available: {', '.join(names)}")
    files = part_files(state)[names[kind]]
    for file in () if verified else files:
        _verify(path / file, state["sha256"])
    return load_part(path, names[kind], files)


def newest_intact_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """Newest intact checkpoint, and the reasons why newer ones were skipped.

    Raises:
        FormatError: a newer checkpoint has a newer format version.
    """
    problems: list[str] = []
    for path in list_checkpoints(folder):
        if (problem := checkpoint_problem(path)) is None:
            return path, problems
        problems.append(problem)
    return None, problems


def checkpoint_problem(path: Path) -> str | None:
    """Reason why a checkpoint is unusable; None = intact."""
    try:
        check_intact(path, load_state(path))
    except CheckpointError as error:
        return str(error)
    except OSError as error:  # from a bad disk
        return f"{error.filename or path}: not readable ({error.strerror or error})"
    return None


def _write_tensors(folder: Path, checkpoint: Checkpoint) -> dict[str, str]:
    """Write a file for each part; their sha256."""
    digests = {}
    for part, tensors in checkpoint.parts.items():
        file = folder / f"{part}{TENSORS}"
        save_tensors(file, tensors)
        digests[file.name] = file_digest(file)
    return digests


def check_intact(path: Path, state: dict[str, Any]) -> None:
    """Verify all files of a checkpoint.

    Raises:
        CheckpointError: a file is missing, or its sha256 differs.
    """
    for files in part_files(state).values():
        for file in files:
            _verify(path / file, state["sha256"])


def _verify(file: Path, digests: dict[str, str]) -> None:
    if not file.is_file():
        raise CheckpointError(f"{file}: missing")
    if file_digest(file) != digests.get(file.name):
        raise CheckpointError(f"{file}: damaged (its sha256 is not the recorded one)")


def _move_existing(final: Path) -> _Replaced | None:
    """Move an existing checkpoint out of the way of a new one; its new path."""
    if not final.exists():
        return None
    damaged = checkpoint_problem(final) is not None
    return _Replaced(path=move_aside(final), damaged=damaged)


def _prune(newest: Path, rule: Retention) -> None:
    """Remove older checkpoints than one that is on disk, as far as a rule does not keep them.

    Incomplete ones go only once they are older than the newest complete ones that stay.
    """
    older = [p for p in list_checkpoints(newest.parent) if int(p.name) < int(newest.name)]
    complete = [int(newest.name), *(int(p.name) for p in older if _is_complete(p))]
    kept = rule.kept(complete)
    recent = sorted(complete)[-rule.newest :]
    oldest_recent = recent[0] if len(recent) == rule.newest else 0
    for path in older:
        if int(path.name) < oldest_recent and int(path.name) not in kept:
            with suppress(FolderBusyError, FileNotFoundError), lock_directory(path):
                remove_checkpoint(path)


def _is_complete(path: Path) -> bool:
    """Whether all files have their full length; their content is not read, which would be slow."""
    if not has_all_files(path):  # a FIFO would be waited for
        return False
    try:
        for file in itertools.chain(*part_files(load_state(path)).values()):
            with safe_open(path / file, framework="pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return True
