# SPDX-License-Identifier: Apache-2.0
"""Folders of models in transformers' format, here or on the hub, and their library."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from pippin.system.files import file_digest
from pippin.system.json_text import parse_json
from pippin.system.regular import read_regular
from pippin.system.weight_checks import check_finite, listed, refuse_quantisation, refuse_quantised
from pippin.system.weight_files import stored_types
from pippin.system.weight_folders import TRANSFORMERS, find_weights

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
    return str(_config(folder).get("model_type", ""))


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        return dict(parse_json(read_regular(path)).items())
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
    except _NotWholeError:
        raise
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{what} in {folder} cannot be loaded ({reason}); wanted are config.json, safetensors "
            f"weights, {parts} in transformers' format"
        ) from error


POOLER = ("pooler.dense.weight", "pooler.dense.bias")
"""Ends of names: of a layer that many published weights lack and nothing here reads."""


def load_weights(
    kind: Any, what: str, folder: Path, may_lack: tuple[str, ...] = ()
) -> tuple[Any, frozenset[str]]:
    """A model of the transformers library in fp32, every tensor as the folder's weights have it.

    The library fills tensors that weights lack with random numbers, and reads quantised weights
    as numbers. Here they are refused.

    Args:
        kind: the library's class.
        what: is loaded, for the message: "text encoder".
        folder: of the model.
        may_lack: ends of names of tensors that nobody reads, or whose absence the caller heeds.

    Returns:
        The model, and the names that are missing, all of them allowed to be.

    Raises:
        ValueError: no weights in safetensors, weights that are quantised or not finite, other
            tensors that are missing, or have another shape than config.json says.
        OSError: a file cannot be read.
    """
    where = f"{what} in {folder}"
    files = find_weights(folder, TRANSFORMERS, pickled=False)
    with _saying_all():
        refuse_quantisation(_config(folder), where)
        refuse_quantised(stored_types(files.path), where)
    model, report = kind.from_pretrained(
        folder,
        local_files_only=True,
        dtype=torch.float32,
        use_safetensors=True,
        variant=files.variant,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are named below
    )
    # Before its version 5 the library gave names here, now with the shapes beside them.
    unlike = sorted(one if isinstance(one, str) else one[0] for one in report["mismatched_keys"])
    if unlike:
        raise _NotWholeError(
            f"{where} is not whole: {len(unlike)} tensors of its weights have another "
            f"shape than its config.json says: {listed(unlike)}; its files do not belong together"
        )
    missing = frozenset(report["missing_keys"])
    if lacking := sorted(name for name in missing if not name.endswith(may_lack)):
        raise _NotWholeError(
            f"{where} is not whole: its weights lack {len(lacking)} tensors "
            f"({listed(lacking)}) of a {kind.__name__}; give a folder with all of them"
        )
    with _saying_all():
        check_finite(model.state_dict(), where)
    return model, missing


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, with a token for padding.

    Raises:
        ValueError: none that can be read; a package that is missing is named.
        OSError: a file cannot be read.
    """
    transformers = transformers_library("a tokenizer")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (ValueError, ImportError) as error:
        pieces = sorted(path.name for path in folder.glob("*.model"))
        if not pieces or (folder / "tokenizer.json").is_file():
            raise
        lacking = " and ".join(name for name in SENTENCEPIECE if not _installed(name))
        found = str(error).strip().splitlines()[0]
        reason = f"without {lacking}" if lacking else f"they are installed and failed: {found}"
        raise ValueError(
            f"its tokenizer lies in {pieces[0]} alone, which takes the packages sentencepiece and "
            f"protobuf: pip install 'pippin[text]'; {reason}"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ValueError("its tokenizer has no token for padding, nor one for the end")
    return tokenizer


SENTENCEPIECE = ("sentencepiece", "protobuf")
"""Packages by which the library reads a tokenizer's ``spiece.model``."""


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


class _NotWholeError(ValueError):
    """Says all there is to say of a folder."""


@contextmanager
def _saying_all() -> Iterator[None]:
    """Mark errors that need no words around them."""
    try:
        yield
    except ValueError as error:
        raise _NotWholeError(str(error)) from error


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
