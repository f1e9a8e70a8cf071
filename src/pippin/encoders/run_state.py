# SPDX-License-Identifier: Apache-2.0
"""The state of an autoencoder's training run, on disk whole or absent, with a checksum."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.system.formats import FormatError, check_stamped, stamped
from pippin.system.tensors import save_tensors, tensors_digest

STATE_FILE = "state.safetensors"
KIND = "autoencoder training"
"""Of :data:`pippin.system.formats.FORMATS`."""


RECORD_KEY = "pippin.record"
"""Of the file's metadata."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Tensors by name, and a position as plain JSON values."""

    tensors: dict[str, Tensor]
    position: dict[str, Any]


def save_state(folder: Path, state: RunState) -> None:
    """Replace the folder's state in one move, so that a kill leaves the old or the new one."""
    digest = tensors_digest(state.tensors)
    record = stamped(KIND, {"position": state.position, "tensors": digest})
    save_tensors(folder / STATE_FILE, state.tensors, metadata={RECORD_KEY: json.dumps(record)})


def load_state(folder: Path) -> RunState | None:
    """The folder's state; None where there is none yet.

    Raises:
        ValueError: the file is damaged.
        FormatError: of a newer version.
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
            f"{path} is damaged ({error}): put a copy of it back, or start again in another folder"
        ) from error
    return RunState(tensors=tensors, position=position)


def _position(metadata: dict[str, str], tensors: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """What was written with these tensors."""
    if RECORD_KEY not in metadata:  # format 0
        return json.loads(metadata["position"])
    record = check_stamped(json.loads(metadata[RECORD_KEY]), KIND, path)
    if record["tensors"] != tensors_digest(tensors):
        raise ValueError("its tensors are not those that were written")
    return record["position"]
