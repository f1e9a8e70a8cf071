# SPDX-License-Identifier: Apache-2.0
"""Models in transformers' format, in local folders or on the hub."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from pippin.encoders.snapshots import SnapshotError, find_snapshot, missing_offline
from pippin.system.files import file_digest
from pippin.system.formats import read_foreign_json
from pippin.system.installation import pip_command
from pippin.system.offline import is_offline
from pippin.system.weight_checks import (
    check_finite,
    join_names,
    refuse_quantisation,
    refuse_quantised,
)
from pippin.system.weight_files import stored_types
from pippin.system.weight_folders import TRANSFORMERS, find_weights

FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""Patterns of files that are downloaded and that the fingerprint covers; no file runs code."""
REQUIRED = ("config.json", "*.safetensors")
"""Patterns of files without which no model loads."""


def model_folder(source: str, what: str, also: str = "") -> Path:
    """Folder of a model; a hub model is downloaded into the hub's cache, or found there.

    Args:
        source: a folder or a hub name.
        what: type of the model, for the message: "text encoder".
        also: further allowed sources, for the message, ending in a comma.

    Raises:
        ValueError: not found; the message says what is allowed.
    """
    if Path(source).is_dir():
        if not (Path(source) / "config.json").is_file():
            raise ValueError(f"{what} {source!r}: the folder has no config.json")
        return Path(source)
    try:
        folder = find_snapshot(source, FILES)
        if is_offline() and not all(any(folder.glob(name)) for name in REQUIRED):
            raise missing_offline(source)
    except SnapshotError as error:
        raise ValueError(
            f"{what} {source!r} is no folder, and as a hub name it {error}; give {also}a folder, "
            "or a hub name with network access"
        ) from error
    return folder


def model_type(folder: Path) -> str:
    """model_type of a folder's config.json; empty if it has none.

    Raises:
        ValueError: config.json is not a JSON object.
    """
    return str(model_config(folder).get("model_type", ""))


def model_config(folder: Path) -> dict[str, Any]:
    """Values of a folder's config.json.

    Raises:
        ValueError: config.json is not a JSON object.
    """
    return read_foreign_json(folder / "config.json")


@contextmanager
def describe_load_errors(what: str, folder: Path, parts: str) -> Iterator[None]:
    """Convert load errors of the library to messages with the model and the required files.

    Args:
        what: type of the model: "text encoder".
        folder: folder of the model.
        parts: required files besides config.json and weights: "a tokenizer".

    Raises:
        ValueError: instead of the library's error.
    """
    try:
        yield
    except _UnusableModelError:
        raise
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{what} in {folder} cannot be loaded ({reason}); required: config.json, safetensors "
            f"weights, {parts} in transformers' format"
        ) from error


POOLER = ("pooler.dense.weight", "pooler.dense.bias")
"""Name suffixes of a layer that many published weights lack and pippin does not use."""


def load_weights(
    kind: Any, what: str, folder: Path, may_lack: tuple[str, ...] = ()
) -> tuple[Any, frozenset[str]]:
    """Load a transformers model in fp32, with every tensor from the folder's weights.

    The library initialises missing tensors randomly, and reads quantised weights as numbers. This
    function rejects both.

    Args:
        kind: model class of the library.
        what: type of the model, for the message: "text encoder".
        folder: folder of the model.
        may_lack: name suffixes of tensors that may be missing, because they are unused or the
            caller handles their absence.

    Returns:
        The model, and the names of missing tensors, all of them allowed.

    Raises:
        ValueError: no safetensors weights, weights that are quantised or not finite, other missing
            tensors, or tensors with another shape than in config.json.
        OSError: a file cannot be read.
    """
    where = f"{what} in {folder}"
    files = find_weights(folder, TRANSFORMERS, pickled=False)
    with _final_errors():
        refuse_quantisation(model_config(folder), where)
        refuse_quantised(stored_types(files.path), where)
    model, report = kind.from_pretrained(
        folder,
        local_files_only=True,
        dtype=torch.float32,
        use_safetensors=True,
        variant=files.variant,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # reported below
    )
    # The library reports names before version 5, and tuples of names and shapes since.
    mismatched = sorted(
        key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]
    )
    if mismatched:
        raise _UnusableModelError(
            f"{where} is invalid: {len(mismatched)} tensors have another shape than config.json "
            f"says: {join_names(mismatched)}; its files do not belong together"
        )
    missing = frozenset(report["missing_keys"])
    if required := sorted(name for name in missing if not name.endswith(may_lack)):
        raise _UnusableModelError(
            f"{where} is incomplete: its weights lack {len(required)} tensors "
            f"({join_names(required)}) of a {kind.__name__}; give a folder with all of them"
        )
    with _final_errors():
        check_finite(model.state_dict(), where)
    return model, missing


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a folder; its padding token defaults to the end token.

    Raises:
        ValueError: no readable tokenizer; the message names a missing package.
        OSError: a file cannot be read.
    """
    transformers = transformers_library("a tokenizer")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (ValueError, ImportError) as error:
        pieces = sorted(path.name for path in folder.glob("*.model"))
        if not pieces or (folder / "tokenizer.json").is_file():
            raise
        missing = " and ".join(name for name in SENTENCEPIECE if not _installed(name))
        message = str(error).strip().splitlines()[0]
        reason = f"they are installed and failed: {message}"
        if missing:
            reason = f"not installed: {missing}"
        raise ValueError(
            f"its tokenizer is in {pieces[0]} alone, which needs the packages sentencepiece and "
            f"protobuf: {pip_command('text')}; {reason}"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ValueError("its tokenizer has no token for padding, nor one for the end")
    return tokenizer


SENTENCEPIECE = ("sentencepiece", "protobuf")
"""Packages that the library needs for a tokenizer's ``spiece.model``."""


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


class _UnusableModelError(ValueError):
    """Error with a complete message about a folder."""


@contextmanager
def _final_errors() -> Iterator[None]:
    """Mark errors whose messages are complete."""
    try:
        yield
    except ValueError as error:
        raise _UnusableModelError(str(error)) from error


def model_fingerprint(setting: str, *folders: Path) -> str:
    """Hash of the files of models and a setting, 16 hexadecimal digits."""
    digest = hashlib.sha256(setting.encode())
    for folder in folders:
        for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
            digest.update(path.name.encode())
            digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()[:16]


def transformers_library(what: str) -> Any:
    """Import transformers, without progress bars.

    Raises:
        ValueError: transformers is not installed.
    """
    if find_spec("transformers") is None:
        raise ValueError(
            f"{what} needs the library transformers, which is not installed: "
            + pip_command("text")
        )
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers
