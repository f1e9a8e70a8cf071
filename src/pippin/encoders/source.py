# SPDX-License-Identifier: Apache-2.0
"""Lookup of an autoencoder by name: a folder with config.json and weights."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from safetensors import safe_open

from pippin.encoders.classes import find_class, supported_classes
from pippin.encoders.config import SHIPPED_PREFIX, AutoencoderConfig
from pippin.encoders.snapshots import SnapshotError, find_snapshot, missing_offline
from pippin.system.formats import AGAIN, read_foreign_json
from pippin.system.offline import is_offline
from pippin.system.weight_folders import DIFFUSERS, find_weights

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
CONFIG_FILE = "config.json"
FETCHED = (
    (WEIGHTS_FILE,),
    (f"{DIFFUSERS}*.safetensors", f"{DIFFUSERS}*.safetensors.index*.json"),
    (f"{DIFFUSERS}*.bin", f"{DIFFUSERS}*.bin.index*.json"),
)
"""Patterns of weights to download from the hub, tried in order until one matches."""


def shipped_autoencoders() -> list[str]:
    """Names of shipped autoencoders."""
    folders = (files("pippin.encoders") / "weights").iterdir()
    return sorted(SHIPPED_PREFIX + f.name for f in folders if (f / WEIGHTS_FILE).is_file())


def find_autoencoder(config: AutoencoderConfig) -> Path:
    """Folder of ``config.source``; a hub model is downloaded into the hub's cache.

    Raises:
        ValueError: not found, or an unsupported class; the message says what is allowed.
    """
    source = config.source
    if source.startswith(SHIPPED_PREFIX):
        folder = _shipped_folder(source)
    elif Path(source).is_dir():
        folder = Path(source)
    else:
        folder = _hub_folder(source, config.revision)
    if not (folder / CONFIG_FILE).is_file():
        inner = folder / "vae" / CONFIG_FILE
        advice = f"give {inner.parent}"
        if not inner.is_file():
            advice = f"give a folder of diffusers' {', '.join(supported_classes())}"
        raise ValueError(f"autoencoder {source!r}: {folder} has no {CONFIG_FILE}; {advice}")
    read_config(folder)
    try:
        find_weights(folder)
    except ValueError as error:
        raise ValueError(f"autoencoder {source!r}: {error}") from error
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of an autoencoder's folder.

    Raises:
        ValueError: damaged, or an unsupported class, which the message names.
    """
    try:
        config = read_foreign_json(folder / CONFIG_FILE)
    except OSError as error:
        raise damaged(folder, error) from error
    try:
        find_class(config)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return config


def read_metadata(folder: Path) -> dict[str, str]:
    """Metadata of an autoencoder's weights file; empty if its format has none.

    Raises:
        ValueError: no weights.
        SafetensorError: damaged weights.
    """
    path = find_weights(folder).path
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def damaged(folder: Path, error: Exception) -> ValueError:
    """Error for unreadable files of an autoencoder."""
    return ValueError(f"{folder}: its weights or config.json are damaged ({error}); {AGAIN}")


def _shipped_folder(source: str) -> Path:
    names = shipped_autoencoders()
    if source not in names:
        raise ValueError(f"no autoencoder {source!r} is shipped; available: {', '.join(names)}")
    place = files("pippin.encoders") / "weights" / source.removeprefix(SHIPPED_PREFIX)
    with as_file(place) as folder:
        return folder


def _hub_folder(source: str, revision: str | None) -> Path:
    try:
        for names in FETCHED:
            folder = find_snapshot(source, (CONFIG_FILE, *names), revision)
            if any(path for name in names for path in folder.glob(name)):
                return folder
        if is_offline():
            raise missing_offline(source, revision)
    except SnapshotError as error:
        raise ValueError(
            f"no autoencoder {source!r}: it is not a local folder, and as a hub name it {error}. "
            f"Allowed: {', '.join(shipped_autoencoders())}, a local folder in diffusers' "
            f"format ({', '.join(supported_classes())}), or a hub name"
        ) from error
    return folder
