# SPDX-License-Identifier: Apache-2.0
"""Which folders below ``checkpoints/`` are checkpoints, and how one makes way.

Folders and files of somebody else are left alone, whatever they are called. No torch here.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from pippin.system.json_text import parse_json
from pippin.system.regular import read_regular

STATE_FILE, TENSORS = "state.json", ".safetensors"
ASIDE = "damaged-"
"""Begins the name of a damaged checkpoint in whose place another one was written."""


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, damaged ones too, the one with most images first."""
    found = [path for path in folder.glob("[0-9]*") if _is_checkpoint(path)]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def list_aside(folder: Path) -> list[Path]:
    """What :func:`move_aside` gave other names."""
    return sorted(folder.glob(f"{ASIDE}[0-9]*"))


def move_aside(path: Path) -> Path:
    """Give what stands at a checkpoint's place another name; that name."""
    number, aside = 1, path.with_name(f"{ASIDE}{path.name}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{ASIDE}{path.name}-{number}")
    return path.rename(aside)


def remove_checkpoint(path: Path) -> None:
    """Remove the files that ``state.json`` of a checkpoint names, and the folder if it is empty.

    Where the record cannot be read, or the folder is a link, nothing is removed. The record goes
    last, so that what a kill leaves is known as ours.

    Raises:
        OSError: the file system's own error.
    """
    names = _recorded_files(path)
    if names is None or path.is_symlink():
        return
    for name in (*names, STATE_FILE):
        (path / name).unlink(missing_ok=True)
    with suppress(OSError):  # somebody's own files are in it
        path.rmdir()


def remove_aside(folder: Path, *, but: Path) -> None:
    """Remove damaged checkpoints that have other names, but one: only the files of a checkpoint,
    and the folder where nothing else is in it."""
    for path in list_aside(folder):
        if path == but or path.is_symlink() or not path.is_dir():
            continue
        for file in [*path.glob(f"*{TENSORS}"), path / STATE_FILE]:
            file.unlink(missing_ok=True)
        with suppress(OSError):  # somebody's own files are in it
            path.rmdir()


def staging_folder(final: Path, process: int) -> Path:
    """Where a process writes a checkpoint before it gets its name."""
    return final.with_name(f".writing-{final.name}-{process}")


def remove_staging(folder: Path) -> None:
    """Remove what killed processes were writing. Only where no other process writes."""
    for path in folder.glob(".writing-[0-9]*-[0-9]*"):
        shutil.rmtree(path, ignore_errors=True)


def _is_checkpoint(path: Path) -> bool:
    """Whether it is named by a number of images and has files of a checkpoint, or none at all."""
    name = path.name
    if not (name.isascii() and name.isdecimal() and str(int(name)) == name and path.is_dir()):
        return False
    names = [one.name for one in path.iterdir()]
    return not names or any(one == STATE_FILE or one.endswith(TENSORS) for one in names)


def _recorded_files(path: Path) -> list[str] | None:
    """Names of the files of tensors; None where the record does not say."""
    try:
        names = list(parse_json(read_regular(path / STATE_FILE))["sha256"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    plain = all(isinstance(one, str) and Path(one).name == one for one in names)
    return names if plain else None
