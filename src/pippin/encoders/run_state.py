# SPDX-License-Identifier: Apache-2.0
"""What a training run of an autoencoder leaves on disk: its state, whole or absent, and a log."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

STATE_FILE = "state.safetensors"
LOG_FILE = "log.jsonl"


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Tensors by name, and a position as plain JSON values."""

    tensors: dict[str, Tensor]
    position: dict[str, Any]


def save_state(folder: Path, state: RunState) -> None:
    """Replace the folder's state in one move, so that a kill leaves the old or the new one."""
    staging = folder / f".{STATE_FILE}.writing"
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
    save_file(tensors, staging, metadata={"position": json.dumps(state.position)})
    with staging.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(staging, folder / STATE_FILE)


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


def append_log(folder: Path, images: int, figures: dict[str, float]) -> None:
    """One line of log.jsonl: {"images": ..., **figures}."""
    with (folder / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"images": images, **figures}) + "\n")


def cut_log(folder: Path, images: int) -> None:
    """Take out lines after ``images``, which a killed process wrote and the next writes again."""
    path = folder / LOG_FILE
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    whole = [line for line in lines if line.endswith("}")]  # a kill may leave half a line
    kept = [line for line in whole if json.loads(line)["images"] <= images]
    staging = folder / f".{LOG_FILE}.writing"
    staging.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    os.replace(staging, path)
