# SPDX-License-Identifier: Apache-2.0
"""The folder of an export, and recovery of an export that was killed or ran out of disk space.

While files are written, a hidden note records the facts of the weights. The same command then
resumes, and an export of other weights is refused. Only files with a staging name are removed.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pippin.run.export_facts import FACTS
from pippin.system.files import TEMPORARY_SUFFIX, write_json
from pippin.system.fsync import make_folder
from pippin.system.json_text import parse_json
from pippin.system.lock import lock_directory
from pippin.system.regular_files import read_regular

NOTE = ".unfinished-export.json"
"""Note in an unfinished folder: the facts of what is written there."""
LAST_FILE = "config.json"
"""The file that is written last."""
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
    facts = _facts(folder / "model.safetensors")
    return None if facts is None else {name: facts.get(name) for name in SAME_WEIGHTS}


def _facts(weights: Path) -> dict[str, Any] | None:
    """The facts of weights that pippin exported; None for other files."""
    try:
        with safe_open(weights, framework="pt") as file:
            return dict(parse_json((file.metadata() or {})[FACTS]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None
