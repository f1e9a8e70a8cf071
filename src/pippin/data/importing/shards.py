# SPDX-License-Identifier: Apache-2.0
"""Atomic import of one shard into image files, with the columns of the first shard.

Images are not decoded: their bytes are written unchanged. File names are the indices of shard and
row, so a source cannot choose where a file is written.
"""

import io
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from pippin.config import ConfigError
from pippin.data.importing.cells import RowReader, SkippedRowError
from pippin.data.importing.columns import Columns
from pippin.data.importing.import_sources import Shard
from pippin.data.importing.rows import FileSlice, OpenShard, Row, find_name, join_names, printable
from pippin.system.files import TEMPORARY_SUFFIX, name_file_in_errors, sync, sync_tree, write_text
from pippin.system.formats import FormatError, read_versioned_json, with_checksum


def check_table(columns: Columns, opened: OpenShard, identity: str) -> None:
    """Reject a table without a column of the first shard, or with other class names.

    Raises:
        ConfigError: with the name of the shard.
    """
    if not opened.columns:
        return
    missing = [name for name in columns.needed if not _may_have(name, opened.columns)]
    _refuse_missing(missing, opened.columns, identity)
    names = opened.classes.get(columns.label) if columns.label else None
    if columns.label and names != columns.names:
        raise ConfigError(
            f"{identity}, has other class names than the first shard: {_listed(names)}; the first "
            f"shard has {_listed(columns.names)}. Import it into a separate folder"
        )


def check_rows(reader: RowReader, opened: OpenShard, identity: str) -> None:
    """Reject a shard whose rows never had a required column, or never had it as text.

    A JSON entry may be missing from some rows.

    Args:
        reader: reader that has read all rows.
        opened: the shard.
        identity: identity of the shard.

    Raises:
        ConfigError: with the name of the shard.
    """
    if not reader.seen and not reader.unread:
        return  # it has no rows
    columns = reader.columns
    missing = [name for name in columns.needed if name not in reader.seen]
    available = opened.columns or [*reader.unread, *reader.seen]
    _refuse_missing(missing, available, identity)
    for role, candidates in (*columns.texts.items(), ("label", columns.labels)):
        if len(candidates) != 1 or reader.taken[role]:
            continue
        start = f"{candidates[0]} (".casefold()
        for note in (note for note in reader.unread if note.casefold().startswith(start)):
            raise ConfigError(
                f"{identity}: {printable(note)} is no text in any row. Name one of its entries, "
                f"such as {candidates[0]}.NAME, or none"
            )


def _may_have(name: str, table: Collection[str]) -> bool:
    """True if a table has a column, or a column that may hold it as an entry."""
    parts = name.split(".")
    return any(find_name(".".join(parts[:end]), table) for end in range(1, len(parts) + 1))


def _refuse_missing(missing: Sequence[str], available: Iterable[str], identity: str) -> None:
    if missing:
        raise ConfigError(
            f"{identity}, has no column {', '.join(sorted(missing))}, which the first shard has; "
            f"it has: {join_names(available)}. Import shards with other columns into a separate "
            "folder, or name columns that all shards have"
        )


def _listed(names: tuple[str, ...] | None) -> str:
    return ", ".join(names) if names else "none"


KIND = "import"
"""Key in :data:`pippin.system.formats.FORMATS`."""
PARTS = ".parts"
"""Folder of records of an import: one file for each complete shard."""
SUFFIXES = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tiff",
}
"""Pillow's format name -> file suffix."""
_NAME = re.compile(rf"\d{{7,}}({'|'.join(map(re.escape, sorted({*SUFFIXES.values()})))})")
"""Pattern of image file names."""
OPENED = tuple(name for name in SUFFIXES if name != "MPO")  # the JPEG reader detects MPO
"""Formats that Pillow tries on the bytes."""
MAX_IMAGE_BYTES = 1 << 30
"""Maximum size of an image in an archive."""


@dataclass(frozen=True, kw_only=True)
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
            "source has changed since; import it into a new folder"
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


def import_shard(shard: Shard, columns: Columns, folder: Path) -> None:
    """Write the images of a shard; its record is written last, after all files are flushed.

    Args:
        shard: the shard to read.
        columns: columns of the first shard.
        folder: folder of the import, in which ``PARTS`` exists.

    Raises:
        ConfigError: a column is missing, the shard cannot be read to its end, or its folder holds
            unrelated files.
        OSError: no disk space.
    """
    place = folder / _name(shard)
    staging = folder / PARTS / f"{place.name}{TEMPORARY_SUFFIX}"
    shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
    _clear(place)
    staging.mkdir()
    try:
        with name_file_in_errors(folder):
            part = _write_images(shard, columns, staging, folder / PARTS)
            sync_tree(staging)
        os.replace(staging, place)
        sync(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    write_text(_part(shard, folder), json.dumps(with_checksum(KIND, asdict(part))))


def _clear(place: Path) -> None:
    """Remove images of an earlier attempt.

    Raises:
        ConfigError: the folder holds other files, which are not removed.
    """
    if not place.is_dir():
        return
    names = sorted(os.listdir(place))
    if others := [name for name in names if not _NAME.fullmatch(name)]:
        raise ConfigError(
            f"{place} is incomplete and would be imported again, but it holds a file that no "
            f"import wrote, {others[0]}: move it away"
        )
    shutil.rmtree(place)


def _write_images(shard: Shard, columns: Columns, folder: Path, scratch: Path) -> Part:
    """Write all images; returns the record with skipped rows and ignored columns."""
    part = Part(of=shard.identity, rows=[], lost=[], folders=[])
    with shard.open(columns, scratch) as opened:
        check_table(columns, opened, shard.identity)
        reader = RowReader(columns, opened.classes, opened.columns)
        for number, row in enumerate(opened.rows):
            try:
                parsed = reader.read(row)
                content = _content(shard, row, parsed.image)
                suffix = _suffix(content)
            except SkippedRowError as error:
                part.lost.append(f"{shard.index} {number}{_called(row)}: {error}")
                continue
            reader.count(parsed)
            name = f"{number:07d}{suffix}"
            (folder / name).write_bytes(content)
            part.num_bytes.append(len(content))
            part.rows.append({"file_name": f"{_name(shard)}/{name}"} | parsed.texts)
            assert part.folders is not None
            part.folders.append(row.folder)
    check_rows(reader, opened, shard.identity)
    part.taken.update({role: dict(counts) for role, counts in reader.taken.items()})
    part.unread.update(reader.unread + opened.unread)
    part.statuses.update(shard.statuses(scratch))
    return part


def _content(shard: Shard, row: Row, image: Any) -> bytes:
    """Bytes of a row's image.

    Raises:
        SkippedRowError: the row has no image.
    """
    if isinstance(image, FileSlice) and image.num_bytes > MAX_IMAGE_BYTES:
        raise SkippedRowError(f"enormous: it has {image.num_bytes} bytes")
    content = shard.content(image)
    if not content:
        raise SkippedRowError(_no_image(row, image))
    return content


def _no_image(row: Row, image: Any) -> str:
    if isinstance(image, dict) and isinstance(image.get("path"), str):
        return "no image: the row names a file and does not hold it"
    if isinstance(image, str):
        return "no image: the column holds text"
    others = [kind for kind, value in row.cells.items() if isinstance(value, FileSlice)]
    return "no image" + (f"; it has {', '.join(map(printable, others))}" if others else "")


def _suffix(content: bytes) -> str:
    """File suffix by the content, whatever the source's name; the image is not decoded."""
    unknown = f"not an image of a format that is read ({', '.join(OPENED)})"
    try:
        with Image.open(io.BytesIO(content), formats=OPENED) as image:
            suffix = SUFFIXES.get(image.format or "")
    except Image.DecompressionBombError as error:
        raise SkippedRowError(f"enormous: it has too many pixels ({error})") from error
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise SkippedRowError(unknown) from error
    if suffix is None:
        raise SkippedRowError(unknown)
    return suffix


def _called(row: Row) -> str:
    return f" ({printable(row.name)})" if row.name else ""


def _name(shard: Shard) -> str:
    return f"{shard.index:05d}"


def _part(shard: Shard, folder: Path) -> Path:
    return folder / PARTS / f"{_name(shard)}.json"
