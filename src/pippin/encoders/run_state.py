# SPDX-License-Identifier: Apache-2.0
"""Training state of an autoencoder run, written atomically with a checksum."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.system.formats import FormatError, check_versioned_json, with_checksum
from pippin.system.json_text import parse_json
from pippin.system.tensors import save_tensors, typed_digest

STATE_FILE = "state.safetensors"
KIND = "autoencoder training"
"""Key in :data:`pippin.system.formats.FORMATS`."""


RECORD_KEY = "pippin.record"
"""Key in the file's metadata."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Tensors by name, and the position as JSON values."""

    tensors: dict[str, Tensor]
    position: dict[str, Any]


def save_state(folder: Path, state: RunState) -> None:
    """Replace the folder's state atomically: a kill leaves the old or the new one."""
    tensors = {name: value.detach().cpu() for name, value in state.tensors.items()}
    record = with_checksum(KIND, {"position": state.position, "tensors": typed_digest(tensors)})
    save_tensors(folder / STATE_FILE, tensors, metadata={RECORD_KEY: json.dumps(record)})


def load_state(folder: Path) -> RunState | None:
    """Load the folder's state; None if there is none.

    Raises:
        ValueError: the file is damaged.
        FormatError: the file has a newer version.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        position = _position(metadata, tensors, path)
    except FormatError:
        raise
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): restore a copy of it, or start again in another folder"
        ) from error
    return RunState(tensors=tensors, position=position)


def _position(metadata: dict[str, str], tensors: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """Position that was written with these tensors."""
    if RECORD_KEY not in metadata:  # format 0
        return parse_json(metadata["position"])
    record = check_versioned_json(parse_json(metadata[RECORD_KEY]), KIND, path)
    if record["tensors"] != typed_digest(tensors):
        raise ValueError("its tensors are not those that were written")
    return record["position"]
