# SPDX-License-Identifier: Apache-2.0
"""One shard of an imported source into files: as a whole or not at all.

Pictures are not decoded here: their bytes go into files as they are. Names are numbers of shard
and row, so nothing in a source can choose where a file is written.
"""

import io
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pippin.config import ConfigError
from pippin.data.import_columns import Columns, checked_rows
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


@dataclass(frozen=True, kw_only=True)
class Part:
    """What came out of one shard."""

    of: str
    """The shard's identity."""
    rows: list[dict[str, str]]
    """Lines of metadata.jsonl."""
    lost: list[str]
    """``SHARD ROW: why``."""
    num_bytes: list[int] = field(default_factory=list)
    """Of the file of each row; none in notes of format 0."""


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
    """Write a shard's pictures; what says that it is whole is written last, when the disk has all.

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
            part = _write_pictures(shard, columns, staging)
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


def _write_pictures(shard: Shard, columns: Columns, folder: Path) -> Part:
    """Write every picture, and tell which rows were lost."""
    part = Part(of=shard.identity, rows=[], lost=[])
    for number, row in enumerate(checked_rows(columns, shard)):
        content = shard.content(row.get(columns.image))
        try:
            suffix = _suffix(content)
        except _NoPictureError as error:
            part.lost.append(f"{shard.index} {number}: {error}")
            continue
        assert content is not None
        name = f"{number:07d}{suffix}"
        (folder / name).write_bytes(content)
        part.num_bytes.append(len(content))
        part.rows.append({"file_name": f"{_name(shard)}/{name}"} | columns.of(row))
    return part


class _NoPictureError(Exception):
    """Says why a row is lost."""


def _suffix(content: bytes | None) -> str:
    """By what the bytes are, whatever the source calls them; nothing is decoded."""
    if not content:
        raise _NoPictureError("no picture")
    unknown = "not a picture that Pillow knows"
    try:
        with Image.open(io.BytesIO(content)) as picture:
            suffix = SUFFIXES.get(picture.format or "")
    except Image.DecompressionBombError as error:
        raise _NoPictureError(f"enormous: it has too many pixels ({error})") from error
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise _NoPictureError(unknown) from error
    if suffix is None:
        raise _NoPictureError(unknown)
    return suffix


def _name(shard: Shard) -> str:
    return f"{shard.index:05d}"


def _part(shard: Shard, folder: Path) -> Path:
    return folder / PARTS / f"{_name(shard)}.json"
