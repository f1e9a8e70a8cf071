# SPDX-License-Identifier: Apache-2.0
"""Rows of a WebDataset archive: one for each sample with an image."""

import tarfile
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from pippin.data.import_members import Member, Sample, group_members
from pippin.data.import_names import INNER, is_image
from pippin.data.import_rows import BinaryFile, FileSlice, OpenShard, Row, ShardSchema
from pippin.data.import_tar import DamagedArchiveError, peek, read_members
from pippin.system.json_text import parse_json

MAX_SCHEMA_MEMBERS, MAX_SCHEMA_BYTES = 3_000, 64 << 20
"""Limits of the part of an archive that determines its schema."""
UNPAIRED = "without an image of their name: "
"""Prefix of the counts of members whose sample has no image."""


def read_archive_schema(file: BinaryFile) -> ShardSchema:
    """Schema of an archive, compressed or not, from the members at its beginning.

    Raises:
        DamagedArchiveError, tarfile.TarError: no member can be read.
    """
    members: list[Member] = []
    entries: dict[str, None] = {}
    is_complete = True
    try:
        for member, content in peek(file, ".json"):
            if len(members) == MAX_SCHEMA_MEMBERS or member.start > MAX_SCHEMA_BYTES:
                is_complete = False
                break
            members.append(member)
            entries |= dict.fromkeys(_entry_names(content))
    except (DamagedArchiveError, tarfile.TarError):
        if not members:
            raise
        is_complete = False  # the error is raised when the archive is read
    samples, _ = group_members(members)
    if not is_complete and len(samples) > 1:
        samples.pop()  # its other members may follow later
    kinds = tuple(tuple(sample.members) for sample in samples)
    names = dict.fromkeys(kind for sample_kinds in kinds for kind in sample_kinds)
    return ShardSchema(names=(*names, *entries), samples=kinds, is_complete=is_complete)


def open_archive(file: BinaryFile, images: Collection[str]) -> OpenShard:
    """Open an archive for its rows; reads all member headers up to the closing blocks first.

    Args:
        file: uncompressed, seekable, at its first byte.
        images: kinds of members that are images, whatever their suffix.

    Raises:
        DamagedArchiveError, tarfile.TarError: the archive is truncated, or a header is damaged.
    """
    unread: Counter[str] = Counter()
    samples, others = group_members(read_members(file, unread))
    unread += others
    samples_with_image = []
    for sample in samples:
        if any(is_image(kind) or kind in images for kind in sample.members):
            samples_with_image.append(sample)
        else:
            unread.update(f"{UNPAIRED}{kind}" for kind in sample.members)
    return OpenShard(rows=_rows(file, samples_with_image), unread=unread)


def _rows(file: BinaryFile, samples: list[Sample]) -> Iterator[Row]:
    for sample in samples:
        cells = {
            kind: FileSlice(file, member.start, member.num_bytes)
            for kind, member in sample.members.items()
        }
        yield Row(cells, sample.key, sample.folder)


def _entry_names(content: bytes) -> list[str]:
    """Names of JSON entries, including those of nested dictionaries."""
    try:
        value = parse_json(content) if content else None
    except (ValueError, RecursionError):
        return []
    return list(_paths(value, INNER)) if isinstance(value, dict) else []


def _paths(values: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict) and prefix == INNER:
            yield from _paths(value, f"{prefix}{key}.")
