# SPDX-License-Identifier: Apache-2.0
"""Whether foreign weights are raw or averaged, as far as names and files say so.

Nothing is guessed: weights that nothing speaks of are of unknown kind.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pippin.config import UNKNOWN_WEIGHTS, WEIGHTS

RAW, AVERAGED = "raw", "ema"
KIND_KEY = "pippin_weights"
"""In the metadata of weights that pippin exported to diffusers: their kind."""
EMA_SUFFIX = "_ema"
"""Ends the folder in which diffusers' training scripts keep averaged weights."""
_TRAINING = re.compile(r"(opt|optim|optimizer|optimizers|grad_scaler)(_|$)|lr_scheduler")
"""Entries that only a training script writes, beside raw weights."""


def is_averaged_name(name: str) -> bool:
    """Whether a name speaks of averaged weights: ema, state_dict_ema, shadow_params, ..."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    return bool({"ema", "emaonly", "shadow"} & words) and not {"non", "no"} & words


def kind_of_entry(entry: str, beside: Iterable[str], file: str = "") -> str:
    """The kind of the weights under an entry of a checkpoint.

    Args:
        entry: its name, or its dotted path; empty = the whole file.
        beside: the names of the other entries, at all levels of that path.
        file: the name of the file.

    Returns:
        ema where a name of the path says so; raw where averaged weights lie beside; where neither
        does, ema by the file's name, raw where the state of a training lies beside, otherwise
        unknown.
    """
    others = list(beside)
    if any(map(is_averaged_name, entry.split("."))):
        return AVERAGED
    if any(map(is_averaged_name, others)):
        return RAW
    if is_averaged_name(file):
        return AVERAGED
    return RAW if any(map(_TRAINING.match, others)) else UNKNOWN_WEIGHTS


def kind_of_folder(folder: Path, weights: Path, config: Mapping[str, Any]) -> str:
    """The kind of the weights in a folder of a diffusers model.

    Args:
        folder: of the model.
        weights: the file in it that is read.
        config: its config.json, which diffusers' class of averaged weights adds its settings to.
    """
    own = _stated(weights)
    if own is not None:
        return own
    name = weights.name
    if ".non_ema." in name or average_beside(folder) is not None:
        return RAW
    averaged = folder.name.endswith(EMA_SUFFIX) or {"decay", "optimization_step"} <= set(config)
    if averaged or ".ema." in name or any(folder.glob("*.non_ema.*")):
        return AVERAGED
    return UNKNOWN_WEIGHTS


def average_of_config(config: Mapping[str, Any]) -> str | None:
    """Which average a folder of averaged weights holds, where its config.json says it."""
    decay = config.get("decay")
    return f"decay {decay:g}" if isinstance(decay, float) else None


def average_beside(folder: Path) -> Path | None:
    """Where averaged weights lie beside the raw ones of a folder: another folder or a file."""
    other = folder.parent / f"{folder.name}{EMA_SUFFIX}"
    if not folder.name.endswith(EMA_SUFFIX) and (other / "config.json").is_file():
        return other
    return next(iter(sorted(folder.glob("*.ema.*"))), None)


def _stated(weights: Path) -> str | None:
    """What pippin wrote into the file when it exported it."""
    if weights.suffix != ".safetensors":
        return None
    try:
        with safe_open(weights, framework="pt") as file:
            kind = (file.metadata() or {}).get(KIND_KEY, "")
    except SafetensorError:  # who reads its tensors says so
        return None
    return kind if WEIGHTS.fullmatch(kind) else None
