# SPDX-License-Identifier: Apache-2.0
"""The record of a checkpoint, ``state.json``: position, counters, and its files with their sha256.

It names the files of two layouts: one file of each part, or one for every rank that wrote.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pippin.distributed.shard_files import part_of_file
from pippin.runs.checkpoint_folders import STATE_FILE, TENSORS
from pippin.system.files import read_regular, write_json
from pippin.system.formats import VERSION, FormatError, check_format, parse_json

PARTS = ("model", "ema", "optimizer")
"""Files of every checkpoint; :data:`pippin.settings.weights.WEIGHTS` names further averages."""
RAW = "model"
KIND = "checkpoint"
"""Key in :data:`pippin.system.formats.FORMATS`, which has the newest version."""
UNSHARDED, SHARDED = 1, 2
"""Versions of the two layouts: programs that know only the first still read it."""


class CheckpointError(ValueError):
    """A checkpoint is unusable; the message names the file and the reason."""


def load_state(path: Path) -> dict[str, Any]:
    """Load position, counters, lineage and checksums of one checkpoint folder.

    Raises:
        CheckpointError: not readable, or not a checkpoint.
        FormatError: the version is newer.
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
    digest = state.pop("state_sha256", None)  # absent from the first checkpoints
    if digest not in (None, _state_digest(state)) or not _is_state(state):
        raise CheckpointError(f"{file}: damaged (its sha256 is not the recorded one)")
    return state


def weight_names(state: dict[str, Any]) -> dict[str, str]:
    """Names of a checkpoint's weights -> names of their files, without suffix.

    Args:
        state: result of :func:`load_state`.
    """
    further = (part for part in part_files(state) if part not in PARTS)
    return {"ema": "ema", "raw": RAW} | {part: part for part in further}


def is_sharded(state: dict[str, Any]) -> bool:
    """Whether a checkpoint has a file of each part for every rank that wrote it."""
    return int(state.get(VERSION, 0)) >= SHARDED


def part_files(state: dict[str, Any]) -> dict[str, list[str]]:
    """Part -> names of its files, the standard parts first.

    Args:
        state: result of :func:`load_state`.
    """
    if not is_sharded(state):
        further = (Path(name).stem for name in state["sha256"])
        return {part: [f"{part}{TENSORS}"] for part in (*PARTS, *further)}
    files: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in state["sha256"]:
        files.setdefault(part_of_file(name) or name, []).append(Path(name).name)
    return files


def write_state(
    folder: Path, state: dict[str, Any], digests: dict[str, str], *, version: int
) -> None:
    """Write ``state.json`` of a checkpoint whose files are on disk.

    Args:
        folder: of the checkpoint.
        state: see :class:`Checkpoint`.
        digests: file -> sha256.
        version: of its layout.
    """
    # A state that was read and is saved again names the version that it had.
    entries = {VERSION: version} | state | {VERSION: version, "sha256": digests}
    write_json(folder / STATE_FILE, entries | {"state_sha256": _state_digest(entries)})


def _state_digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _is_state(state: dict[str, Any]) -> bool:
    """Whether a state has the entries that all readers use."""
    images, digests = state.get("images_seen"), state.get("sha256")
    return type(images) is int and isinstance(digests, dict)
