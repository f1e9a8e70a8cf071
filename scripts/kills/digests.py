# SPDX-License-Identifier: Apache-2.0
"""What must be equal in the end: every file and number but times, and files left half-written."""

import hashlib
import json
from pathlib import Path
from typing import Any

SKIPPED = {".lock", "lock", "tensorboard", "report.html", "failure.txt", "results.jsonl.torn"}
"""Locks are empty or say who builds, TensorBoard's files and reports hold times; why an attempt
failed, and the line that a kill tore, are kept beside what the next attempt writes."""
TIMES = {
    *("written", "wall_seconds", "environment", "seconds", "images_per_second", "data_seconds"),
    *("step_seconds", "time", "data_wait", "seconds_per_step"),
}
"""Entries of JSON that hold times, or on which machine it was."""
OF_FOLDER = {"places", "content_sha256", "state_sha256"}
"""Entries that say where paths led, each round has a folder of its own, and checksums over these
entries and over times."""


def sha(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder; JSON without times, results by what they are of."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or SKIPPED & {*inside.parts}:
            continue
        if path.suffix == ".jsonl":
            found |= {f"{inside} {n}": text for n, text in enumerate(_lines(path))}
        elif path.suffix == ".json":
            found[str(inside)] = _plain(json.loads(path.read_text()))
        elif path.suffix == ".safetensors":
            found[str(inside)] = _weights(path)
        else:
            found[str(inside)] = sha(path)
    return found


def _weights(path: Path) -> str:
    """The library writes entries of its header in an order that no two processes share."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = _plain(json.loads(content[8:end]))
    return hashlib.sha256(header.encode() + content[end:]).hexdigest()


def _lines(path: Path) -> list[str]:
    """In a study's results, a run that was tried again has lines of both attempts: those of an
    attempt that failed have no number."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [line for line in lines if line.get("status") in (None, "finished")]
    texts = [_plain(line) for line in kept]
    return sorted({*texts}) if path.name == "results.jsonl" else texts


def _plain(value: Any) -> str:
    return json.dumps(_timeless(value), sort_keys=True)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in TIMES | OF_FOLDER}
    return [_timeless(one) for one in value] if isinstance(value, list) else value
