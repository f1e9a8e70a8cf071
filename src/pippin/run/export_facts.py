# SPDX-License-Identifier: Apache-2.0
"""What the header of an exported model says of its weights, with a checksum of its own."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pippin.config import WEIGHTS
from pippin.system.formats import CHECKSUM, check_stamped, stamped
from pippin.system.lines import parse_object

FACTS = "pippin"
"""The entry of a safetensors file's metadata that holds the facts."""
SHA256 = "sha256"
"""The digest of the weights. Exports of earlier versions have neither this nor a checksum of the
facts."""


def sealed(facts: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of an exported model's weights.

    Args:
        facts: JSON values by name.
    """
    return {"format": "pt", FACTS: json.dumps(stamped("export", facts))}


def read_facts(path: Path) -> dict[str, Any]:
    """The facts in the header of an exported model's weights, checked.

    Returns:
        weights, images_seen and lineage; sha256 and average where the file has them.

    Raises:
        FormatError: of a newer version.
        ValueError: the file is damaged or not an exported model; it is named.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_object((file.metadata() or {})[FACTS])
    except KeyError as error:
        raise damaged(path, "its header holds no facts of pippin") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    if SHA256 in facts and CHECKSUM not in facts:
        raise damaged(path, f"its header has lost {CHECKSUM}")
    facts = check_stamped(facts, "export", path)
    for name, (wanted, fits) in _FACTS.items():
        if name not in facts:
            raise damaged(path, f"its header does not say {name}")
        if not fits(facts[name]):
            raise damaged(path, f"{name} must be {wanted}; got {str(facts[name])[:80]!r}")
    for name, (wanted, fits) in _OPTIONAL.items():
        if not fits(facts.setdefault(name, None)):
            raise damaged(path, f"{name} must be {wanted}; got {str(facts[name])[:80]!r}")
    return facts


def damaged(path: Path, reason: str) -> ValueError:
    """The error of an exported model that cannot be used."""
    return ValueError(
        f"{path} is damaged or was not exported by pippin ({reason}): export the run again, or "
        "fetch the file again"
    )


def unverified(source: str) -> str:
    """What to say of an export whose weights nothing can be compared with."""
    return (
        f"{source} was exported by an earlier version, which recorded no sha256 of its weights: "
        f"damage to them cannot be found; `pippin export {source} OUT` records one"
    )


def _is_kind(value: Any) -> bool:
    return isinstance(value, str) and WEIGHTS.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_lineage(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and _is_parent(one) for one in value
    )


def _is_parent(one: dict[str, Any]) -> bool:
    return (
        isinstance(one.get("source"), str)
        and _is_kind(one.get("weights"))
        and _is_count(one.get("images_seen"))
    )


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_digest(value: Any) -> bool:
    return value is None or (_is_text(value) and re.fullmatch(r"[0-9a-f]{64}", value) is not None)


_Check = tuple[str, Callable[[Any], bool]]
_FACTS: dict[str, _Check] = {
    "weights": ("raw, ema or the name of an average", _is_kind),
    "images_seen": ("a whole number, 0 or more", _is_count),
    "lineage": ("a list of the weights it descends from", _is_lineage),
}
_OPTIONAL: dict[str, _Check] = {
    "average": ("text", _is_text),
    SHA256: ("64 hexadecimal digits", _is_digest),
}
