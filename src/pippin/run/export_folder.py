# SPDX-License-Identifier: Apache-2.0
"""A folder that an export writes, and what is left of one that was killed or found no room.

While files are written a hidden note says of which weights. The same command then goes on where
another one is refused. Nothing is removed but files that never got their name.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pippin.run.export_facts import FACTS
from pippin.system.files import STAGING_SUFFIX, write_json
from pippin.system.flush import make_folder
from pippin.system.json_text import parse_json
from pippin.system.lock import folder_itself_locked
from pippin.system.regular import read_regular

NOTE = ".unfinished-export.json"
"""In a folder that is not whole yet: what is written there."""
LAST_FILE = "config.json"
"""It is written last; without the others it is not there."""
SAME_WEIGHTS = ("weights", "images_seen", "lineage")
"""Facts of exported weights that tell what was left without a note, by an earlier version."""
ADVICE = "choose another folder"


def refuse_full(folder: Path) -> None:
    """Refuse to write where something lies, unless an export left it that was not finished.

    Raises:
        ValueError: the folder has other files, or is a file.
    """
    if folder.is_file():
        raise ValueError(f"{folder} is a file; {ADVICE}")
    if _names(folder) and _unfinished(folder) is None:
        raise ValueError(f"{folder} is not empty; {ADVICE}")


@contextmanager
def unfinished_export(folder: Path, facts: Mapping[str, Any]) -> Iterator[None]:
    """Claim a folder for files that the body writes; the claim ends when all are there.

    Args:
        folder: new, empty, or left by an export of the same weights that was not finished.
        facts: as exported weights have them, see :data:`SAME_WEIGHTS`; and what else decides which
            files are written.

    Raises:
        ValueError: the folder holds something else, what is left of other weights, or another
            process exports into it.
        OSError: disk full or not writable; the same call goes on.
    """
    refuse_full(folder)
    make_folder(folder)
    with folder_itself_locked(folder):
        refuse_full(folder)  # another process may have come to its end meanwhile
        here = json.loads(json.dumps(facts))  # tuples become lists
        before = _unfinished(folder)
        if before is not None and any(here.get(name) != value for name, value in before.items()):
            raise ValueError(
                f"{folder} holds an export of other weights that was not finished: remove it, or "
                f"{ADVICE}"
            )
        for left in folder.rglob(f".*.[0-9]*{STAGING_SUFFIX}"):
            left.unlink(missing_ok=True)
        write_json(folder / NOTE, here)
        yield
        (folder / NOTE).unlink()


def _names(folder: Path) -> list[str]:
    """Of all in a folder but files that never got their name."""
    if not folder.exists():
        return []
    staged = {path.name for path in folder.glob(f".*.[0-9]*{STAGING_SUFFIX}") if path.is_file()}
    return [path.name for path in folder.iterdir() if path.name not in staged]


def _unfinished(folder: Path) -> dict[str, Any] | None:
    """The facts of an export that was not finished; None where there is none."""
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
    """Of weights that pippin has exported; None where they are not."""
    try:
        with safe_open(weights, framework="pt") as file:
            return dict(parse_json((file.metadata() or {})[FACTS]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None
