# SPDX-License-Identifier: Apache-2.0
"""Records of imported shards: rows, skipped rows and counts, one file for each complete shard."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pippin.config import ConfigError
from pippin.data.importing.import_sources import Shard
from pippin.data.importing.rows import printable
from pippin.system.files import write_text
from pippin.system.formats import FormatError, read_versioned_json, with_checksum

KIND = "import"
"""Key in :data:`pippin.system.formats.FORMATS`."""
PARTS = ".parts"
"""Folder of records of an import: one file for each complete shard."""


@dataclass(kw_only=True)
class Part:
    """Record of one imported shard."""

    of: str
    """Identity of the shard."""
    rows: list[dict[str, str]]
    """Lines of metadata.jsonl."""
    lost: list[str]
    """Skipped rows as ``SHARD ROW: reason``."""
    num_bytes: list[int] = field(default_factory=list)
    """File size of each row; empty in records of format 0."""
    folders: list[str] | None = None
    """Folder of each row inside the archive; None = unknown."""
    taken: dict[str, dict[str, int]] = field(default_factory=dict)
    """image, label or a column of metadata.jsonl -> column of the source -> rows."""
    unread: dict[str, int] = field(default_factory=dict)
    """Ignored columns and kinds of members -> count."""
    statuses: dict[str, int] = field(default_factory=dict)
    """img2dataset's status of URLs -> count."""
    repeated_keys: int = 0
    """Number of samples with the key of an earlier one; all of them are used."""
    skipped: list[dict[str, Any]] = field(default_factory=list)
    """``row``, ``key`` and ``reason`` of the rows in ``lost``."""
    files: list[dict[str, Any]] | None = None
    """Facts about the file of each row, of shards that were not unpacked; see
    :mod:`pippin.data.streaming.reading`."""

    def skip(self, shard: int, number: int | None, key: str, reason: str) -> None:
        """Record a skipped row; None = the rows after the last one."""
        called = f" ({printable(key)})" if key else ""
        self.lost.append(f"{shard} {'end' if number is None else number}{called}: {reason}")
        self.skipped.append({"row": number, "key": printable(key), "reason": reason})


def read_part(shard: Shard, folder: Path, *, sizes: bool = True) -> Part | None:
    """Record of a shard from an earlier call; None if the shard is missing or incomplete.

    Args:
        shard: the shard.
        folder: folder of the import.
        sizes: check the size of each file; a power cut may leave empty files.

    Raises:
        ConfigError: the record belongs to another shard of the same index, or is damaged.
        FormatError: the record has a newer version.
    """
    place = _part(shard, folder)
    if not place.exists():
        return None
    part = _read_note(place)
    if part.of != shard.identity:
        raise ConfigError(
            f"shard {shard.index} of {folder} was {part.of}, and is {shard.identity} now: the "
            "source has changed since: give a new folder (--folder of `pippin data import`, "
            "--data.path of `pippin data prepare`)"
        )
    return part if not sizes or _has_files(part, folder) else None


def _read_note(place: Path) -> Part:
    try:
        part = Part(**read_versioned_json(place, KIND))
        names = [row["file_name"] for row in part.rows]
        if part.num_bytes and len(part.num_bytes) != len(names):
            raise ValueError(f"it has {len(names)} rows and {len(part.num_bytes)} sizes")
    except FormatError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{place} is damaged ({error}): remove it, and its shard is imported again"
        ) from error
    return part


def _has_files(part: Part, folder: Path) -> bool:
    """True if every file exists with its full size."""
    for place, row in enumerate(part.rows):
        try:
            size = (folder / row["file_name"]).stat().st_size
        except OSError:
            return False
        if size != part.num_bytes[place] if part.num_bytes else size == 0:
            return False
    return True


def shard_folder(shard: Shard) -> str:
    """Name of the folder of a shard's images."""
    return f"{shard.index:05d}"


def write_part(part: Part, shard: Shard, folder: Path) -> None:
    """Write the record of a shard, after all of its files."""
    write_text(_part(shard, folder), json.dumps(with_checksum(KIND, asdict(part))))


def _part(shard: Shard, folder: Path) -> Path:
    return folder / PARTS / f"{shard_folder(shard)}.json"
