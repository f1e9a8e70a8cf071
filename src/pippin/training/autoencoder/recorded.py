# SPDX-License-Identifier: Apache-2.0
"""Settings that the state of an autoencoder's run records, and their comparison on resume."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pippin.config import protocol
from pippin.encoders.config import AutoencoderTrainConfig
from pippin.encoders.representation.frozen import FrozenEncoder
from pippin.settings.marks import legacy_defaults
from pippin.system.tensors import typed_digest

CONTENT = "data.content"
"""Key of the hash of the images among the data settings."""
PATH_SETTINGS = ("data.path", "data.metadata")
"""Data settings that may differ if the images are the same."""
ENCODER_WEIGHTS = "encoder.weights"
"""Name of the digest of a frozen encoder's weights."""


def recorded_settings(
    config: AutoencoderTrainConfig, data: Mapping[str, Any], encoder: FrozenEncoder | None
) -> dict[str, dict[str, Any]]:
    """Settings that determine the results of a run, as JSON values by name.

    Args:
        config: settings of the training.
        data: settings that determine the batches, by name.
        encoder: the frozen encoder; None for a KL autoencoder.
    """
    names = {f"train.{name}": value for name, value in protocol(config).items()}
    return json.loads(
        json.dumps({"config": names, "data": dict(data), "encoder": _encoder_identity(encoder)})
    )


def _encoder_identity(encoder: FrozenEncoder | None) -> dict[str, Any]:
    """Settings of a frozen encoder, and the digest of its weights; empty without one."""
    if encoder is None:
        return {}
    weights = {name: value.cpu() for name, value in encoder.state_dict().items()}
    settings = dict(encoder.settings)
    inner = {f"encoder.config.{name}": v for name, v in settings.pop("config", {}).items()}
    outer = {f"encoder.{name}": value for name, value in settings.items()}
    return {ENCODER_WEIGHTS: typed_digest(weights), **outer, **inner}


def refuse_change(
    recorded: Mapping[str, Any], given: Mapping[str, Any], kind: type, folder: Path
) -> None:
    """Reject settings that differ from those of a state.

    Args:
        recorded: position of the state; without an entry for the encoder in older ones.
        given: result of :func:`recorded_settings` now.
        kind: class of the training's configuration, with the defaults of settings added later.
        folder: folder of the run.

    Raises:
        ValueError: the message names all of them.
    """
    defaults = {f"train.{name}": value for name, value in legacy_defaults(kind).items()}
    before = defaults | recorded["config"] | recorded.get("data", {})
    now = defaults | given["config"] | given["data"]
    known = recorded.get("encoder", {})  # another version of its library may know other settings
    shared = known.keys() & given["encoder"].keys()
    before |= {name: known[name] for name in sorted(shared)}
    now |= {name: given["encoder"][name] for name in shared}
    ignored = {CONTENT} if CONTENT not in before else set()  # an older version
    if before.get(CONTENT) is not None and before[CONTENT] == now.get(CONTENT):
        ignored = {*PATH_SETTINGS}  # the same images in another folder
    names = [n for n in {**before, **now} if before.get(n) != now.get(n) and n not in ignored]
    if not names:
        return
    lines = "\n".join(f"  {n}: {before.get(n)!r} -> {now.get(n)!r}" for n in names)
    hints = {
        CONTENT: "means other images",
        ENCODER_WEIGHTS: "means another model in train.representation.source",
    }
    notes = "".join(f"; another {n} {hint}" for n, hint in hints.items() if n in names)
    raise ValueError(
        f"{folder} was trained with other settings (recorded -> given):\n{lines}\n"
        f"resume with the recorded ones, or choose another --out{notes}"
    )
