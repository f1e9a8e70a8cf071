# SPDX-License-Identifier: Apache-2.0
"""Checks of a DINOv2 by its files, without loading its weights."""

from importlib.util import find_spec
from pathlib import Path

from pippin.encoders.hub import (
    REQUIRED,
    model_config,
    model_folder,
    model_type,
    transformers_library,
)
from pippin.encoders.snapshots import SnapshotError, find_snapshot
from pippin.evaluation.features.dinov2 import INPUT_SIZE
from pippin.system.offline import is_offline
from pippin.system.weight_files import stored_shapes
from pippin.system.weight_folders import TRANSFORMERS, find_weights

EXAMPLE = "facebook/dinov2-base"
CLASS_TOKEN = "embeddings.cls_token"
"""End of the name of a tensor (1, 1, width)."""


def stated_width(source: str, setting: str) -> int:
    """Number of features that the files of a DINOv2 state.

    A hub model that is not in the hub's cache yet is asked for its config.json only.

    Args:
        source: a folder, or a hub name.
        setting: setting that names the source, for messages.

    Raises:
        ValueError: no such model or another type, patches that do not divide the input, weights
            that are missing or of another width, or transformers is not installed.
    """
    option = f"--{setting.replace('_', '-')}"
    try:
        folder, complete = _folder(source)
        _check_type(source, folder)
        width = _width(folder)
        if complete:
            _check_weights(folder, width)
    except ValueError as error:
        raise ValueError(
            f"{setting}: {error}: give a folder or hub name of a DINOv2 in transformers' format, "
            f"such as {option} {EXAMPLE}"
        ) from error
    if find_spec("transformers") is None:
        transformers_library("DINOv2")  # raises with the command that installs it
    return width


def _folder(source: str) -> tuple[Path, bool]:
    """Folder with config.json, and whether it must hold the weights already."""
    if Path(source).is_dir() or is_offline():
        return model_folder(source, "DINOv2"), True
    try:
        folder = find_snapshot(source, ("config.json",))
    except SnapshotError as error:
        raise ValueError(
            f"{source!r} is no folder, and as a hub name it {str(error).rstrip('.')}"
        ) from error
    return folder, all(any(folder.glob(name)) for name in REQUIRED)


def _check_type(source: str, folder: Path) -> None:
    if (found := model_type(folder)) != "dinov2":
        raise ValueError(f"{source!r} is a {found!r} model, and a 'dinov2' is needed")


def _width(folder: Path) -> int:
    """Number of features, by a config.json whose patches fit the input."""
    config = model_config(folder)
    width, patch = config.get("hidden_size"), config.get("patch_size")
    if not isinstance(width, int) or not isinstance(patch, int) or min(width, patch) < 1:
        raise ValueError(
            f"{folder / 'config.json'} states hidden_size {width} and patch_size {patch}, and "
            "both must be numbers of 1 or more"
        )
    if INPUT_SIZE % patch:
        raise ValueError(
            f"patches of {patch} pixels do not divide images of {INPUT_SIZE}, which the model "
            "reads; 14 and 16 do"
        )
    return width


def _check_weights(folder: Path, width: int) -> None:
    """Refuse weights that are missing, or of another size than config.json states."""
    path = find_weights(folder, TRANSFORMERS, pickled=False).path
    for name, shape in stored_shapes(path).items():
        if name.endswith(CLASS_TOKEN) and shape[-1] != width:
            raise ValueError(
                f"the weights in {path} have {shape[-1]} features, and config.json states "
                f"hidden_size {width}; its files do not belong together"
            )
