# SPDX-License-Identifier: Apache-2.0
"""Facts on the weights in the header of an exported model, with a checksum."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pippin.config import WEIGHTS
from pippin.system.formats import CHECKSUM, check_versioned_json, with_checksum
from pippin.system.lines import parse_object

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
