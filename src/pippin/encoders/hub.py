# SPDX-License-Identifier: Apache-2.0
"""Folders of models in transformers' format, here or on the hub, and their library."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pippin.system.files import file_digest

FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""What is fetched of a model, and what its fingerprint covers: no file that runs code."""


def model_folder(source: str, what: str, also: str = "") -> Path:
    """The folder that a source names; a hub name is fetched into the hub's cache.

    Args:
        source: a folder or a hub name.
        what: is looked for: "text encoder".
        also: what else may be given, for the message, ending in a comma.

    Raises:
        ValueError: nothing of that name; the message says what may be given.
    """
    if Path(source).is_dir():
        if not (Path(source) / "config.json").is_file():
            raise ValueError(f"{what} {source!r}: the folder has no config.json")
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(source, allow_patterns=list(FILES))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{what} {source!r} is no folder, and as a hub name it could not be fetched "
            f"({reason}); give {also}a folder, or a hub name with network access"
        ) from error
    return Path(found)


def model_type(folder: Path) -> str:
    """What kind of model a folder's config.json says it is; empty where it does not say.

    Raises:
        ValueError: it is no JSON object.
    """
    path = folder / "config.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("model_type", ""))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no JSON object: {error}") from error


@contextmanager
def loading(what: str, folder: Path, parts: str) -> Iterator[None]:
    """Say which model it is that the library cannot load, and what a folder of one holds.

    Args:
        what: is loaded: "text encoder".
        folder: of the model.
        parts: besides config.json and weights: "a tokenizer".

    Raises:
        ValueError: in the place of what the library raises.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{what} in {folder} cannot be loaded ({reason}); wanted are config.json, safetensors "
            f"weights, {parts} in transformers' format"
        ) from error


def model_fingerprint(setting: str, *folders: Path) -> str:
    """16 hexadecimal digits over the files of models and how they are read."""
    digest = hashlib.sha256(setting.encode())
    for folder in folders:
        for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
            digest.update(path.name.encode())
            digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()[:16]


def transformers_library(what: str) -> Any:
    """The library, without its progress bars.

    Raises:
        ValueError: it is not installed.
    """
    if find_spec("transformers") is None:
        raise ValueError(
            f"{what} needs the library transformers, which is not installed: pip install "
            "'pippin[text]'"
        )
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers
