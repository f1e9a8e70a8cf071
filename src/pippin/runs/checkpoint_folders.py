# SPDX-License-Identifier: Apache-2.0
"""Listing, renaming and removal of checkpoint folders below ``checkpoints/``.

Foreign folders and files are never touched, whatever their names. Does not import torch.
"""

import re
import shutil
from contextlib import suppress
from pathlib import Path

from pippin.system.files import make_folder, read_regular
from pippin.system.formats import parse_json

STATE_FILE, TENSORS = "state.json", ".safetensors"
ASIDE = "damaged-"
"""Prefix of the name of a damaged checkpoint that was replaced by another one."""


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, damaged ones included, the most images first."""
    checkpoints = [path for path in folder.glob("[0-9]*") if _is_checkpoint(path)]
    return sorted(checkpoints, key=lambda path: int(path.name), reverse=True)


def has_all_files(path: Path) -> bool:
    """Whether a checkpoint has a readable record and every tensor file that it names; contents
    are not verified."""
    names = _recorded_files(path)
    return names is not None and all((path / name).is_file() for name in names)


def list_aside(folder: Path) -> list[Path]:
    """Paths renamed by :func:`move_aside`."""
    return sorted(folder.glob(f"{ASIDE}[0-9]*"))


def move_aside(path: Path) -> Path:
    """Rename an existing checkpoint path; returns the new path."""
    number, aside = 1, path.with_name(f"{ASIDE}{path.name}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{ASIDE}{path.name}-{number}")
    return path.rename(aside)


def remove_checkpoint(path: Path) -> None:
    """Remove the files named by a checkpoint's ``state.json``, and the folder if it is then empty.

    If the record is unreadable or the folder is a link, nothing is removed. The record is removed
    last, so that the remains after a kill are still recognised.

    Raises:
        OSError: the file system's own error.
    """
    names = _recorded_files(path)
    if names is None or path.is_symlink():
        return
    for name in (*names, STATE_FILE):
        (path / name).unlink(missing_ok=True)
    with suppress(OSError):  # it holds files of the user
        path.rmdir()


def remove_aside(folder: Path, *, except_for: Path) -> None:
    """Remove renamed damaged checkpoints except one: only checkpoint files, and the folder if it
    is then empty."""
    for path in list_aside(folder):
        if path == except_for or path.is_symlink() or not path.is_dir():
            continue
        for file in [*path.glob(f"*{TENSORS}"), path / STATE_FILE]:
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it holds files of the user
            path.rmdir()


def staging_folder(final: Path, process: int) -> Path:
    """Folder in which a process writes a checkpoint before the rename."""
    return final.with_name(f".writing-{final.name}-{process}")


def make_staging(staging: Path) -> None:
    """Make a :func:`staging_folder`, and remove those of killed processes first: the disk may have
    no room for both, and a container gives a repeated command the same process id.

    Raises:
        OSError: the file system's own error.
    """
    make_folder(staging.parent)
    remove_staging(staging.parent)
    staging.mkdir()


def final_path(path: str) -> str:
    """The path with the name that :func:`staging_folder` replaced, of any process."""
    return re.sub(r"\.writing-(\d+)-\d+", r"\1", path)


def remove_staging(folder: Path) -> None:
    """Remove partial checkpoints of killed processes. Call it only if no other process writes."""
    for path in folder.glob(".writing-[0-9]*-[0-9]*"):
        shutil.rmtree(path, ignore_errors=True)


def _is_checkpoint(path: Path) -> bool:
    """Whether the name is a number of images and the folder holds checkpoint files or nothing."""
    name = path.name
    if not (name.isascii() and name.isdecimal() and str(int(name)) == name and path.is_dir()):
        return False
    names = [file.name for file in path.iterdir()]
    return not names or any(name == STATE_FILE or name.endswith(TENSORS) for name in names)


def _recorded_files(path: Path) -> list[str] | None:
    """Names of the recorded tensor files; None if the record is unreadable."""
    try:
        names = list(parse_json(read_regular(path / STATE_FILE))["sha256"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    plain = all(isinstance(name, str) and Path(name).name == name for name in names)
    return names if plain else None
