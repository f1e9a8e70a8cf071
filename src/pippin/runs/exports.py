# SPDX-License-Identifier: Apache-2.0
"""Exported models: the folder, facts in the header of the weights, and their kind.

While files are written, a hidden note records the facts of the weights. After a kill or a full
disk the same command resumes, and an export of other weights is refused. Only files with a staging
name are removed.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pippin.settings.weights import UNKNOWN_WEIGHTS, WEIGHTS
from pippin.system.files import TEMPORARY_SUFFIX, make_folder, read_regular, write_json
from pippin.system.formats import CHECKSUM, check_versioned_json, parse_json, with_checksum
from pippin.system.lines import parse_object
from pippin.system.lock import lock_directory


def check_weight_kind(source: str, available: str, requested: str | None) -> None:
    """Refuse to use an exported model's weights as weights of another kind.

    Args:
        source: the export, as the user named it.
        available: kind of its weights; an unknown kind may be any.
        requested: kind that the user requests; None = any.

    Raises:
        ValueError: naming both kinds.
    """
    if requested not in (None, available) and available != UNKNOWN_WEIGHTS:
        raise ValueError(
            f"{source} holds {available} weights only; asked for {requested} weights. Ask for "
            f"{available}: --weights {available}, or --init.weights {available} for a run that "
            "starts there"
        )


def describe_weights(weights: str, average: str | None, images_seen: int) -> str:
    """Describe weights in a message: ``raw weights at 64 images``.

    Args:
        weights: their name, see :data:`pippin.settings.weights.WEIGHTS`.
        average: name of the average, where it is known.
        images_seen: 0 = unknown.
    """
    kind = "weights of unknown kind" if weights == UNKNOWN_WEIGHTS else f"{weights} weights"
    kind += f" ({average})" if average is not None else ""
    return f"{kind} at {images_seen} images" if images_seen else f"{kind}, images seen: unknown"


AUTOENCODER_FOLDER, TEXT_FOLDER, TOKENIZER_FOLDER = "autoencoder", "text_encoder", "tokenizer"
"""Folders of the encoders; those of the second text encoder end in ``_2``, as in diffusers."""
FACTS = "pippin"
"""Entry of a safetensors file's metadata that holds the facts."""
SHA256 = "sha256"
"""Digest of the weights. Exports of earlier versions have neither this nor a checksum of the
facts."""


def export_metadata(facts: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of an exported model's weights.

    Args:
        facts: JSON values by name.
    """
    return {"format": "pt", FACTS: json.dumps(with_checksum("export", facts))}


def read_facts(path: Path) -> dict[str, Any]:
    """Read and check the facts in the header of an exported model's weights.

    Returns:
        weights, images_seen and lineage; sha256 and average where the file has them.

    Raises:
        FormatError: the file is of a newer version.
        ValueError: the file is damaged or not an exported model; the message names it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_object((file.metadata() or {})[FACTS])
    except KeyError as error:
        raise damaged_error(path, "its header holds no facts of pippin") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise damaged_error(path, str(error)) from error
    if SHA256 in facts and CHECKSUM not in facts:
        raise damaged_error(path, f"its header has lost {CHECKSUM}")
    facts = check_versioned_json(facts, "export", path)
    for name, (expected, is_valid) in _FACTS.items():
        if name not in facts:
            raise damaged_error(path, f"its header does not say {name}")
        if not is_valid(facts[name]):
            raise damaged_error(path, f"{name} must be {expected}; got {str(facts[name])[:80]!r}")
    for name, (expected, is_valid) in _OPTIONAL.items():
        if not is_valid(facts.setdefault(name, None)):
            raise damaged_error(path, f"{name} must be {expected}; got {str(facts[name])[:80]!r}")
    return facts


def damaged_error(path: Path, reason: str) -> ValueError:
    """The error of a damaged exported model."""
    return ValueError(
        f"{path} is damaged or was not exported by pippin ({reason}): export the run again, or "
        "fetch the file again"
    )


def unverified_note(source: str) -> str:
    """Note on an export whose weights cannot be verified."""
    return (
        f"{source} was exported by an earlier version, which recorded no sha256 of its weights: "
        f"damage to them cannot be detected; `pippin export {source} OUT` records one"
    )


def _is_weights_name(value: Any) -> bool:
    return isinstance(value, str) and WEIGHTS.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_lineage(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(parent, dict) and _is_parent(parent) for parent in value
    )


def _is_parent(parent: dict[str, Any]) -> bool:
    return (
        isinstance(parent.get("source"), str)
        and _is_weights_name(parent.get("weights"))
        and _is_count(parent.get("images_seen"))
    )


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_digest(value: Any) -> bool:
    return value is None or (_is_text(value) and re.fullmatch(r"[0-9a-f]{64}", value) is not None)


_Check = tuple[str, Callable[[Any], bool]]
_FACTS: dict[str, _Check] = {
    "weights": ("raw, ema or the name of an average", _is_weights_name),
    "images_seen": ("a whole number, 0 or more", _is_count),
    "lineage": ("a list of the weights it descends from", _is_lineage),
}
_OPTIONAL: dict[str, _Check] = {
    "average": ("text", _is_text),
    SHA256: ("64 hexadecimal digits", _is_digest),
}


NOTE = ".unfinished-export.json"
"""Note in an unfinished folder: the facts of what is written there."""
LAST_FILE = "config.json"
"""The file that is written last."""
WEIGHTS_FILE = "model.safetensors"
SAME_WEIGHTS = ("weights", "images_seen", "lineage")
"""Facts of exported weights that identify an unfinished export of an earlier version, which wrote
no note."""
ADVICE = "choose another folder"


def check_export_folder(folder: Path) -> None:
    """Refuse a folder with files, unless an unfinished export left them.

    Raises:
        ValueError: the folder has other files, or is a file.
    """
    if folder.is_file():
        raise ValueError(f"{folder} is a file; {ADVICE}")
    if _names(folder) and _unfinished(folder) is None:
        raise ValueError(f"{folder} is not empty; {ADVICE}")


@contextmanager
def writing_export(folder: Path, facts: Mapping[str, Any]) -> Iterator[None]:
    """Mark a folder as unfinished while the body writes its files.

    Args:
        folder: new, empty, or left by an unfinished export of the same weights.
        facts: facts of the exported weights, see :data:`SAME_WEIGHTS`, and whatever else decides
            which files are written.

    Raises:
        ValueError: the folder holds other files or an unfinished export of other weights, or
            another process exports into it.
        OSError: disk full or not writable; the same call resumes.
    """
    check_export_folder(folder)
    make_folder(folder)
    with lock_directory(folder):
        check_export_folder(folder)  # another process may have finished meanwhile
        facts = json.loads(json.dumps(facts))  # tuples become lists
        before = _unfinished(folder)
        if before is not None and any(facts.get(name) != value for name, value in before.items()):
            raise ValueError(
                f"{folder} holds an unfinished export of other weights: remove it, or {ADVICE}"
            )
        for staged in folder.rglob(f".*.[0-9]*{TEMPORARY_SUFFIX}"):
            staged.unlink(missing_ok=True)
        write_json(folder / NOTE, facts)
        yield
        (folder / NOTE).unlink()


def _names(folder: Path) -> list[str]:
    """Names in a folder, without staged files."""
    if not folder.exists():
        return []
    staged = {path.name for path in folder.glob(f".*.[0-9]*{TEMPORARY_SUFFIX}") if path.is_file()}
    return [path.name for path in folder.iterdir() if path.name not in staged]


def _unfinished(folder: Path) -> dict[str, Any] | None:
    """The facts of an unfinished export; None where there is none."""
    note = folder / NOTE
    if note.is_file() and not note.is_symlink():
        try:
            return dict(parse_json(read_regular(note)))
        except (ValueError, TypeError):
            return None
    if (folder / LAST_FILE).exists():
        return None
    facts = _facts(folder / WEIGHTS_FILE)
    return None if facts is None else {name: facts.get(name) for name in SAME_WEIGHTS}


def _facts(weights: Path) -> dict[str, Any] | None:
    """The facts of weights that pippin exported; None for other files."""
    try:
        with safe_open(weights, framework="pt") as file:
            return dict(parse_json((file.metadata() or {})[FACTS]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None
