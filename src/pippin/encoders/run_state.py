# SPDX-License-Identifier: Apache-2.0
"""The state of an autoencoder's training run, on disk whole or absent."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.system.tensors import save_tensors

STATE_FILE = "state.safetensors"


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Tensors by name, and a position as plain JSON values."""

    tensors: dict[str, Tensor]
    position: dict[str, Any]


def save_state(folder: Path, state: RunState) -> None:
    """Replace the folder's state in one move, so that a kill leaves the old or the new one."""
    metadata = {"position": json.dumps(state.position)}
    save_tensors(folder / STATE_FILE, state.tensors, metadata=metadata)


def load_state(folder: Path) -> RunState | None:
    """The folder's state; None where there is none yet.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            position = json.loads((file.metadata() or {})["position"])
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); start again in another folder") from error
    return RunState(tensors=tensors, position=position)
