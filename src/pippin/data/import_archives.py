# SPDX-License-Identifier: Apache-2.0
"""Rows of a WebDataset archive: one for each sample that has an image."""

import tarfile
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from pippin.data.import_members import Member, Sample, group_members
from pippin.data.import_names import INNER, is_image
from pippin.data.import_rows import BinaryFile, Look, OpenShard, Row, Stored
from pippin.data.import_tar import DamagedArchiveError, peek, read_members
from pippin.system.json_text import parse_json

MOST_MEMBERS, MOST_BYTES = 3_000, 64 << 20
"""What is looked at of an archive before it is read."""
UNPAIRED = "without an image of their name: "
"""Begins what is said of members of samples that have none."""


def look_at_archive(file: BinaryFile) -> Look:
    """The kinds of members at the beginning of an archive, compressed or not.

    Raises:
        DamagedArchiveError, tarfile.TarError: no member of it can be read.
    """
    members: list[Member] = []
    entries: dict[str, None] = {}
    is_whole = True
    try:
        for member, content in peek(file, ".json"):
            if len(members) == MOST_MEMBERS or member.start > MOST_BYTES:
                is_whole = False
                break
            members.append(member)
            entries |= dict.fromkeys(_entry_names(content))
    except (DamagedArchiveError, tarfile.TarError):
        if not members:
            raise
        is_whole = False  # who reads the archive says so
    samples, _ = group_members(members)
    if not is_whole and len(samples) > 1:
        samples.pop()  # the rest of its members was not seen
    kinds = tuple(tuple(sample.members) for sample in samples)
    names = dict.fromkeys(kind for several in kinds for kind in several)
    return Look(names=(*names, *entries), samples=kinds, is_whole=is_whole)


def open_archive(file: BinaryFile, images: Collection[str]) -> OpenShard:
    """The rows of an archive; its list of members is read to the closing blocks first.

    Args:
        file: uncompressed, at its first byte; it can seek.
        images: kinds of members that are images whatever their suffix.

    Raises:
        DamagedArchiveError, tarfile.TarError: it is cut off, or a header is damaged.
    """
    unread: Counter[str] = Counter()
    samples, others = group_members(read_members(file, unread))
    unread += others
    with_image = []
    for sample in samples:
        if any(is_image(kind) or kind in images for kind in sample.members):
            with_image.append(sample)
        else:
            unread.update(f"{UNPAIRED}{kind}" for kind in sample.members)
    return OpenShard(rows=_rows(file, with_image), unread=unread)


def _rows(file: BinaryFile, samples: list[Sample]) -> Iterator[Row]:
    for sample in samples:
        cells = {
            kind: Stored(file, member.start, member.num_bytes)
            for kind, member in sample.members.items()
        }
        yield Row(cells, sample.key, sample.folder)


def _entry_names(content: bytes) -> list[str]:
    """Names of entries of a json, those of dictionaries inside included."""
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
