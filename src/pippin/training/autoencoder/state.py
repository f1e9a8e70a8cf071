# SPDX-License-Identifier: Apache-2.0
"""Training state of an autoencoder run in one file, written atomically with a checksum."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.runs.checkpoint import Checkpoint
from pippin.system.formats import FormatError, check_versioned_json, parse_json, with_checksum
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

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "RunState":
        """State of a checkpoint, under the names of the file."""
        tensors = {
            **{f"network/{name}": value for name, value in checkpoint.model.items()},
            **{f"average/{name}": value for name, value in checkpoint.ema.items()},
        }
        for key, value in checkpoint.optimizer.items():
            slot, name = key.split("/", 1)
            tensors[f"optimizer/{name}/{slot}"] = value
        return cls(tensors=tensors, position=checkpoint.state)

    def checkpoint(self) -> Checkpoint:
        """The checkpoint of :meth:`of`."""
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
        for key, value in self.tensors.items():
            part, name = key.split("/", 1)
            if part == "optimizer":
                parameter, slot = name.rsplit("/", 1)
                name = f"{slot}/{parameter}"
            parts[part][name] = value
        return Checkpoint(
            model=parts["network"],
            ema=parts["average"],
            optimizer=parts["optimizer"],
            state=self.position,
        )


def write_state(folder: Path, state: RunState) -> None:
    """Replace the folder's state atomically: a kill leaves the old or the new one."""
    tensors = {name: value.detach().cpu() for name, value in state.tensors.items()}
    record = with_checksum(KIND, {"position": state.position, "tensors": typed_digest(tensors)})
    save_tensors(folder / STATE_FILE, tensors, metadata={RECORD_KEY: json.dumps(record)})


def read_state(folder: Path) -> RunState | None:
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
