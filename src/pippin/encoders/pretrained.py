# SPDX-License-Identifier: Apache-2.0
"""Models in the format of the transformers library: their folder, their files, the library."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""All that is read of a model; weights that would have to be unpickled are not."""


def pretrained_folder(source: str, what: str, allowed: str) -> Path:
    """The folder of a model; a hub name is fetched into the hub's cache.

    Args:
        source: a folder, or a hub name.
        what: is looked for: ``text encoder``.
        allowed: what may be given, for the message.

    Raises:
        ValueError: nothing of that name, or a folder without a config.json.
    """
    folder = Path(source)
    if not folder.is_dir():
        return _hub_folder(source, what, allowed)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{what} {source!r}: the folder has no config.json")
    return folder


def model_type(folder: Path) -> str:
    """What kind of model a folder's config.json says it is; empty where it does not say.

    Raises:
        ValueError: it is no JSON object.
    """
    path = folder / "config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        return str(settings.get("model_type", ""))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no JSON object: {error}") from error


def signature(folder: Path) -> bytes:
    """Names and SHA-256 of a model's files."""
    parts = []
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            parts += [path.name.encode(), hashlib.file_digest(file, "sha256").digest()]
    return b"".join(parts)


def transformers_library() -> Any:
    """The library, without its progress bars.

    Raises:
        ValueError: it is not installed.
    """
    if find_spec("transformers") is None:
        raise ValueError(
            "text needs the library transformers, which is not installed: pip install "
            "'pippin[text]'"
        )
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers


def _hub_folder(source: str, what: str, allowed: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(source, allow_patterns=list(FILES))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{what} {source!r} is no folder, and as a hub name it could not be fetched "
            f"({reason}); give {allowed}"
        ) from error
    return Path(found)
