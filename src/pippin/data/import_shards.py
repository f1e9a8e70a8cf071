# SPDX-License-Identifier: Apache-2.0
"""One shard of an imported source into files: as a whole or not at all.

Images are not decoded here: their bytes go into files as they are. Names are numbers of shard and
row, so nothing in a source can choose where a file is written.
"""

import io
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from pippin.config import ConfigError
from pippin.data.import_cells import RowReader, UnusableRowError
from pippin.data.import_checks import check_rows, check_table
from pippin.data.import_columns import Columns
from pippin.data.import_names import shown
from pippin.data.import_rows import Row, Stored
from pippin.data.import_sources import Shard
from pippin.system.files import STAGING_SUFFIX, naming, write_text
from pippin.system.flush import sync, sync_tree
from pippin.system.formats import FormatError, read_stamped, stamped

KIND = "import"
"""Of :data:`pippin.system.formats.FORMATS`."""
PARTS = ".parts"
"""Folder of what is known of an import: one file for each shard that is there as a whole."""
SUFFIXES = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tiff",
}
"""Pillow's name of a format -> that of its files."""
_NAME = re.compile(rf"\d{{7,}}({'|'.join(map(re.escape, sorted({*SUFFIXES.values()})))})")
"""What files of images are called."""
OPENED = tuple(name for name in SUFFIXES if name != "MPO")  # which JPEG's reader gives
"""Formats that are looked for in bytes."""
LARGEST_IMAGE = 1 << 30
"""Bytes of an image in an archive."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What came out of one shard."""

    of: str
    """The shard's identity."""
    rows: list[dict[str, str]]
    """Lines of metadata.jsonl."""
    lost: list[str]
    """``SHARD ROW: why``, of rows that were skipped."""
    num_bytes: list[int] = field(default_factory=list)
    """Of the file of each row; none in notes of format 0."""
    folders: list[str] | None = None
    """Inside an archive, of each of ``rows``; None = not known."""
    taken: dict[str, dict[str, int]] = field(default_factory=dict)
    """image, label or a column of metadata.jsonl -> column of the source -> rows."""
    unread: dict[str, int] = field(default_factory=dict)
    """Columns and kinds of members that were not taken -> how many."""
    statuses: dict[str, int] = field(default_factory=dict)
    """What img2dataset says of its URLs -> how many."""


def read_part(shard: Shard, folder: Path, *, sizes: bool = True) -> Part | None:
    """What an earlier call made of a shard; None where it was not finished, or is not whole.

    Args:
        shard: what is asked for.
        folder: of the import.
        sizes: look at the size of each file; an empty one, as a power cut may leave, is no image.

    Raises:
        ConfigError: it was made of another shard of the same number, or the note is damaged.
        FormatError: the note is of a newer version.
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
        part = Part(**read_stamped(place, KIND))
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
    """Whether each file is there to its end."""
    for place, row in enumerate(part.rows):
        try:
            size = (folder / row["file_name"]).stat().st_size
        except OSError:
            return False
        if size != part.num_bytes[place] if part.num_bytes else size == 0:
            return False
    return True


def import_shard(shard: Shard, columns: Columns, folder: Path) -> None:
    """Write a shard's images; what says that it is whole is written last, when the disk has all.

    Args:
        shard: what is read.
        columns: those of the first shard.
        folder: of the import, in which ``PARTS`` exists.

    Raises:
        ConfigError: it lacks a column, or cannot be read to its end, or its folder holds files of
            somebody else.
        OSError: no room.
    """
    place = folder / _name(shard)
    staging = folder / PARTS / f"{place.name}{STAGING_SUFFIX}"
    shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
    _clear(place)
    staging.mkdir()
    try:
        with naming(folder):
            part = _write_images(shard, columns, staging, folder / PARTS)
            sync_tree(staging)
        os.replace(staging, place)
        sync(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    write_text(_part(shard, folder), json.dumps(stamped(KIND, asdict(part))))


def _clear(place: Path) -> None:
    """Remove an earlier try's images.

    Raises:
        ConfigError: there are other files, which are not removed.
    """
    if not place.is_dir():
        return
    names = sorted(os.listdir(place))
    if others := [name for name in names if not _NAME.fullmatch(name)]:
        raise ConfigError(
            f"{place} is not whole and would be imported again, but holds a file that no import "
            f"wrote, {others[0]}: move it away"
        )
    shutil.rmtree(place)


def _write_images(shard: Shard, columns: Columns, folder: Path, scratch: Path) -> Part:
    """Write every image, and tell which rows were skipped and what was not taken."""
    part = Part(of=shard.identity, rows=[], lost=[], folders=[])
    with shard.open(columns, scratch) as opened:
        check_table(columns, opened, shard.identity)
        reader = RowReader(columns, opened.classes, opened.columns)
        for number, row in enumerate(opened.rows):
            try:
                reading = reader.read(row)
                content = _content(shard, row, reading.image)
                suffix = _suffix(content)
            except UnusableRowError as error:
                part.lost.append(f"{shard.index} {number}{_called(row)}: {error}")
                continue
            reader.count(reading)
            name = f"{number:07d}{suffix}"
            (folder / name).write_bytes(content)
            part.num_bytes.append(len(content))
            part.rows.append({"file_name": f"{_name(shard)}/{name}"} | reading.texts)
            assert part.folders is not None
            part.folders.append(row.folder)
    check_rows(reader, opened, shard.identity)
    part.taken.update({role: dict(counts) for role, counts in reader.taken.items()})
    part.unread.update(reader.unread + opened.unread)
    part.statuses.update(shard.statuses(scratch))
    return part


def _content(shard: Shard, row: Row, image: Any) -> bytes:
    """The bytes of a row's image.

    Raises:
        UnusableRowError: it has none.
    """
    if isinstance(image, Stored) and image.num_bytes > LARGEST_IMAGE:
        raise UnusableRowError(f"enormous: it has {image.num_bytes} bytes")
    content = shard.content(image)
    if not content:
        raise UnusableRowError(_no_image(row, image))
    return content


def _no_image(row: Row, image: Any) -> str:
    if isinstance(image, dict) and isinstance(image.get("path"), str):
        return "no image: the row names a file and does not hold it"
    if isinstance(image, str):
        return "no image: the column holds text"
    others = [kind for kind, value in row.cells.items() if isinstance(value, Stored)]
    return "no image" + (f"; it has {', '.join(map(shown, others))}" if others else "")


def _suffix(content: bytes) -> str:
    """By what the bytes are, whatever the source calls them; nothing is decoded."""
    unknown = f"not an image of a format that is read ({', '.join(OPENED)})"
    try:
        with Image.open(io.BytesIO(content), formats=OPENED) as image:
            suffix = SUFFIXES.get(image.format or "")
    except Image.DecompressionBombError as error:
        raise UnusableRowError(f"enormous: it has too many pixels ({error})") from error
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise UnusableRowError(unknown) from error
    if suffix is None:
        raise UnusableRowError(unknown)
    return suffix


def _called(row: Row) -> str:
    return f" ({shown(row.name)})" if row.name else ""


def _name(shard: Shard) -> str:
    return f"{shard.index:05d}"


def _part(shard: Shard, folder: Path) -> Path:
    return folder / PARTS / f"{_name(shard)}.json"
