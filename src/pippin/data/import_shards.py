# SPDX-License-Identifier: Apache-2.0
"""One shard of an imported source into files: as a whole or not at all.

Pictures are not decoded here: their bytes go into files as they are. Names are numbers of shard
and row, so nothing in a source can choose where a file is written.
"""

import io
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pippin.config import ConfigError
from pippin.data.import_columns import Columns, checked_rows
from pippin.data.import_sources import Shard
from pippin.system.files import STAGING_SUFFIX, naming, write_text

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


@dataclass(frozen=True, kw_only=True)
class Part:
    """What came out of one shard."""

    of: str
    """The shard's identity."""
    rows: list[dict[str, str]]
    """Lines of metadata.jsonl."""
    lost: list[str]
    """``SHARD ROW: why``."""


def read_part(shard: Shard, folder: Path) -> Part | None:
    """What an earlier call made of a shard; None where it was not finished.

    Raises:
        ConfigError: it was made of another shard of the same number.
    """
    place = _part(shard, folder)
    if not place.exists():
        return None
    part = Part(**json.loads(place.read_text(encoding="utf-8")))
    if part.of != shard.identity:
        raise ConfigError(
            f"shard {shard.index} of {folder} was {part.of}, and is {shard.identity} now: the "
            "source has changed since; import it into a new folder"
        )
    return part


def import_shard(shard: Shard, columns: Columns, folder: Path) -> None:
    """Write a shard's pictures; what says that it is whole is written last.

    Args:
        shard: what is read.
        columns: those of the first shard.
        folder: of the import, in which ``PARTS`` exists.

    Raises:
        ConfigError: it lacks a column, or cannot be read to its end.
        OSError: no room.
    """
    place = folder / _name(shard)
    staging = folder / PARTS / f"{place.name}{STAGING_SUFFIX}"
    for left in (staging, place):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    staging.mkdir()
    try:
        with naming(folder):
            part = _write_pictures(shard, columns, staging)
        os.replace(staging, place)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    write_text(_part(shard, folder), json.dumps(asdict(part)))


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
