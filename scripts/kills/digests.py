# SPDX-License-Identifier: Apache-2.0
"""Digests of a result for comparison: all files and numbers except times and partial files."""

import hashlib
import json
from pathlib import Path
from typing import Any

SKIPPED = {".lock", "lock", "tensorboard", "report.html", "failure.txt", "results.jsonl.torn"}
"""Files not compared: locks, TensorBoard's files and reports (which hold times), and the remains
of failed attempts."""
TIMES = {
    *(
        "written",
        "wall_seconds",
        "wall_time",
        "environment",
        "seconds",
        "images_per_second",
        "data_seconds",
    ),
    *("step_seconds", "time", "data_wait", "seconds_per_step"),
}
"""JSON entries that hold times or the machine."""
OF_FOLDER = {"places", "content_sha256", "state_sha256"}
"""JSON entries with locations, which differ per trial, and checksums that cover them or times."""


def sha(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder; JSON without times, and JSON Lines line by line."""
    result: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or SKIPPED & {*inside.parts}:
            continue
        if path.suffix == ".jsonl":
            result |= {f"{inside} {n}": text for n, text in enumerate(_lines(path))}
        elif path.suffix == ".json":
            result[str(inside)] = _plain(json.loads(path.read_text()))
        elif path.suffix == ".safetensors":
            result[str(inside)] = _weights(path)
        else:
            result[str(inside)] = sha(path)
    return result


def _weights(path: Path) -> str:
    """Digest of a safetensors file, whose header order differs between processes."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = _plain(json.loads(content[8:end]))
    return hashlib.sha256(header.encode() + content[end:]).hexdigest()


def _lines(path: Path) -> list[str]:
    """Lines of a JSON Lines file; of a repeated run in a study's results, failed attempts are
    dropped."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [line for line in lines if line.get("status") in (None, "finished")]
    texts = [_plain(line) for line in kept]
    return sorted({*texts}) if path.name == "results.jsonl" else texts


def _plain(value: Any) -> str:
    return json.dumps(_timeless(value), sort_keys=True)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _timeless(item) for key, item in value.items() if key not in TIMES | OF_FOLDER
        }
    return [_timeless(item) for item in value] if isinstance(value, list) else value
