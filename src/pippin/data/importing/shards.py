# SPDX-License-Identifier: Apache-2.0
"""Atomic import of one shard into image files, with the columns of the first shard.

Images are not decoded: their bytes are written unchanged. File names are the indices of shard and
row, so a source cannot choose where a file is written.
"""

import io
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from pippin.config import ConfigError
from pippin.data.importing.cells import ParsedRow, RowReader, SkippedRowError
from pippin.data.importing.columns import Columns
from pippin.data.importing.import_sources import Shard
from pippin.data.importing.parts import PARTS, Part, shard_folder, write_part
from pippin.data.importing.rows import FileSlice, OpenShard, Row, find_name, join_names, printable
from pippin.system.files import TEMPORARY_SUFFIX, name_file_in_errors, sync, sync_tree


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


class RowImage(NamedTuple):
    """Image of a row, as its source holds it."""

    number: int
    """Number of the row in its shard."""
    key: str
    """Name of the sample in the source; empty for a table."""
    name: str
    """File name: the number and the suffix of the format."""
    content: bytes


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
    place = folder / shard_folder(shard)
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
    write_part(part, shard, folder)


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
    for image in read_images(shard, columns, scratch, part):
        (folder / image.name).write_bytes(image.content)
    return part


def read_images(
    shard: Shard, columns: Columns, scratch: Path, part: Part, *, require_caption: bool = False
) -> Iterator[RowImage]:
    """Images of a shard in order, one in memory at a time; ``part`` is complete at the end.

    Args:
        shard: the shard to read.
        columns: columns of the first shard.
        scratch: folder for the copy of a remote or compressed file.
        part: record of the shard, without rows.
        require_caption: skip rows without a main caption.

    Raises:
        ConfigError: a column is missing, or the shard cannot be read to its end.
    """
    keys: set[str] = set()
    with shard.open(columns, scratch) as opened:
        check_table(columns, opened, shard.identity)
        reader = RowReader(columns, opened.classes, opened.columns)
        for number, row in enumerate(opened.rows):
            try:
                parsed, content, suffix = _read_row(shard, reader, row)
                if require_caption and "text" not in parsed.texts:
                    raise SkippedRowError("no caption")
            except (SkippedRowError, EOFError) as error:
                cut = "truncated member: " if isinstance(error, EOFError) else ""
                part.skip(shard.index, number, row.name, f"{cut}{error}")
                continue
            reader.count(parsed)
            part.repeated_keys += row.name in keys
            keys.update({row.name} - {""})
            name = f"{number:07d}{suffix}"
            part.num_bytes.append(len(content))
            part.rows.append({"file_name": f"{shard_folder(shard)}/{name}"} | parsed.texts)
            assert part.folders is not None
            part.folders.append(row.folder)
            yield RowImage(number, row.name, name, content)
        if opened.damage:
            part.skip(shard.index, None, "", f"damaged archive: {opened.damage}")
    check_rows(reader, opened, shard.identity)
    part.taken.update({role: dict(counts) for role, counts in reader.taken.items()})
    part.unread.update(reader.unread + opened.unread)
    part.statuses.update(shard.statuses(scratch))


def _read_row(shard: Shard, reader: RowReader, row: Row) -> tuple[ParsedRow, bytes, str]:
    """Values of a row, the bytes of its image, and the suffix of their format."""
    parsed = reader.read(row)
    content = _content(shard, row, parsed.image)
    return parsed, content, _suffix(content)


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
