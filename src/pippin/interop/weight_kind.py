# SPDX-License-Identifier: Apache-2.0
"""Kind of converted weights, raw or averaged, from the names of entries and files.

Nothing is guessed: without such a name the kind is unknown.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pippin.config import UNKNOWN_WEIGHTS, WEIGHTS

RAW, AVERAGED = "raw", "ema"
KIND_KEY = "pippin_weights"
"""Metadata key of the kind of weights that pippin exported to diffusers."""
EMA_SUFFIX = "_ema"
"""Suffix of the folder in which diffusers' training scripts keep averaged weights."""
_TRAINING = re.compile(r"(opt|optim|optimizer|optimizers|grad_scaler)(_|$)|lr_scheduler")
"""Pattern of entries that only training scripts write, beside raw weights."""


def is_averaged_name(name: str) -> bool:
    """True if a name denotes averaged weights: ema, state_dict_ema, shadow_params, ..."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    return bool({"ema", "emaonly", "shadow"} & words) and not {"non", "no"} & words


def kind_of_entry(entry: str, siblings: Iterable[str], file: str = "") -> str:
    """Kind of the weights under an entry of a checkpoint.

    Args:
        entry: its name, or its dotted path; empty = the whole file.
        siblings: names of the other entries, at all levels of that path.
        file: name of the file.

    Returns:
        ema if a name of the path says so; raw if a sibling holds averaged weights; otherwise ema
        if the file name says so, raw if a sibling holds training state, else unknown.
    """
    others = list(siblings)
    if any(map(is_averaged_name, entry.split("."))):
        return AVERAGED
    if any(map(is_averaged_name, others)):
        return RAW
    if is_averaged_name(file):
        return AVERAGED
    return RAW if any(map(_TRAINING.match, others)) else UNKNOWN_WEIGHTS


def kind_of_folder(folder: Path, weights: Path, config: Mapping[str, Any]) -> str:
    """Kind of the weights in a folder of a diffusers model.

    Args:
        folder: folder of the model.
        weights: file in it that is read.
        config: its config.json, to which diffusers' EMAModel adds its settings.
    """
    exported = _exported_kind(weights)
    if exported is not None:
        return exported
    name = weights.name
    if ".non_ema." in name or averaged_sibling(folder) is not None:
        return RAW
    averaged = folder.name.endswith(EMA_SUFFIX) or {"decay", "optimization_step"} <= set(config)
    if averaged or ".ema." in name or any(folder.glob("*.non_ema.*")):
        return AVERAGED
    return UNKNOWN_WEIGHTS


def average_of_config(config: Mapping[str, Any]) -> str | None:
    """Decay of the average in a folder of averaged weights, if its config.json has it."""
    decay = config.get("decay")
    return f"decay {decay:g}" if isinstance(decay, float) else None


def averaged_sibling(folder: Path) -> Path | None:
    """Folder or file with averaged weights beside the raw weights of a folder, if any."""
    other = folder.parent / f"{folder.name}{EMA_SUFFIX}"
    if not folder.name.endswith(EMA_SUFFIX) and (other / "config.json").is_file():
        return other
    return next(iter(sorted(folder.glob("*.ema.*"))), None)


def _exported_kind(weights: Path) -> str | None:
    """Kind that pippin wrote into the file's metadata on export, if any."""
    if weights.suffix != ".safetensors":
        return None
    try:
        with safe_open(weights, framework="pt") as file:
            kind = (file.metadata() or {}).get(KIND_KEY, "")
    except SafetensorError:  # the reader of its tensors reports it
        return None
    return kind if WEIGHTS.fullmatch(kind) else None
