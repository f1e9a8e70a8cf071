# SPDX-License-Identifier: Apache-2.0
"""Rows of WebDataset archives and of parquet files."""

import tarfile
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from pippin.data.importing.rows import (
    INNER,
    BinaryFile,
    FileSlice,
    OpenShard,
    Row,
    ShardSchema,
    find_name,
    is_image,
)
from pippin.data.importing.tar import (
    DamagedArchiveError,
    Member,
    Sample,
    group_members,
    members_before_damage,
    peek,
    read_members,
)
from pippin.system.formats import parse_json

MAX_SCHEMA_MEMBERS, MAX_SCHEMA_BYTES = 3_000, 64 << 20
"""Limits of the part of an archive that determines its schema."""
HTML_BYTES = 256
"""Bytes at the start of a file that show an HTML page."""
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


def open_archive(file: BinaryFile, images: Collection[str], *, salvage: bool = False) -> OpenShard:
    """Open an archive for its rows; reads all member headers up to the closing blocks first.

    Args:
        file: uncompressed, seekable, at its first byte.
        images: kinds of members that are images, whatever their suffix.
        salvage: read the members before the first fault of a damaged archive.

    Raises:
        DamagedArchiveError, tarfile.TarError: the archive is truncated, or a header is damaged;
            with ``salvage``, only if that comes before the first member.
    """
    start = file.read(HTML_BYTES).lstrip().lower()
    file.seek(0)
    if start.startswith((b"<!doctype html", b"<html")):
        raise DamagedArchiveError(
            "it is an HTML page, such as a login, and no archive of this format"
        )
    unread: Counter[str] = Counter()
    faults: list[str] = []
    members = read_members(file, unread)
    samples, others = group_members(members_before_damage(members, faults) if salvage else members)
    unread += others
    samples_with_image = []
    for sample in samples:
        if any(is_image(kind) or kind in images for kind in sample.members):
            samples_with_image.append(sample)
        else:
            unread.update(f"{UNPAIRED}{kind}" for kind in sample.members)
    rows = _sample_rows(file, samples_with_image)
    return OpenShard(rows=rows, unread=unread, damage="".join(faults))


def _sample_rows(file: BinaryFile, samples: list[Sample]) -> Iterator[Row]:
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


BATCH = 64
"""Number of rows in memory at once."""
IMAGE_FIELDS = {"bytes", "path"}
"""Fields of an image column, as Hugging Face ``datasets`` writes it."""


def read_parquet_schema(file: BinaryFile) -> ShardSchema:
    """Schema of a file, from its footer.

    Raises:
        pyarrow.ArrowException, OSError: not a parquet file, or truncated.
    """
    from pyarrow import types

    schema = _open(file).schema_arrow
    declared = _features(schema)
    names, images, lists, dictionaries = [], [], set(), set()
    for column in schema:
        names.append(column.name)
        entries = {column.type.field(n).name for n in range(column.type.num_fields)}
        is_dictionary = types.is_struct(column.type)
        if _kind(declared, column.name) == "Image" or (is_dictionary and entries >= IMAGE_FIELDS):
            images.append(column.name)
        elif is_dictionary:
            names += [f"{column.name}.{name}" for name in sorted(entries)]
            dictionaries.add(column.name)
        elif types.is_nested(column.type):
            lists.add(column.name)
    return ShardSchema(
        names=tuple(names),
        images=tuple(images),
        classes=_classes(declared),
        lists=frozenset(lists),
        dictionaries=frozenset(dictionaries),
    )


def open_parquet(file: BinaryFile, requested: Collection[str]) -> OpenShard:
    """Open a file for its rows.

    Args:
        file: a seekable file.
        requested: columns to read, or entries of columns; missing ones are ignored.

    Raises:
        pyarrow.ArrowException, OSError: not a parquet file, or damaged.
    """
    table = _open(file)
    names = tuple(table.schema_arrow.names)
    return OpenShard(
        rows=_batch_rows(table, _columns_of(requested, names)),
        columns=names,
        classes=_classes(_features(table.schema_arrow)),
    )


def _columns_of(requested: Collection[str], names: Collection[str]) -> list[str]:
    """Columns of a file with the requested names, or with requested entries."""
    columns: dict[str, None] = {}
    for path in requested:
        parts = path.split(".")
        starts = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        columns |= {name: None for start in starts if (name := find_name(start, names))}
    return list(columns)


def count_values(file: BinaryFile, column: str) -> Counter[str]:
    """Number of rows of each value of a column; empty if there is no such column.

    Raises:
        pyarrow.ArrowException, OSError: not a parquet file, or damaged.
    """
    table = _open(file)
    if column not in table.schema_arrow.names:
        return Counter()
    return Counter(str(value) for value in table.read([column]).column(column).to_pylist())


def _open(file: BinaryFile) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(file, page_checksum_verification=True)


def _batch_rows(table: Any, names: list[str]) -> Iterator[Row]:
    for batch in table.iter_batches(batch_size=BATCH, columns=names):
        yield from rows_of(batch)


def rows_of(batch: Any) -> Iterator[Row]:
    """Rows of an Arrow table or batch; text that is not UTF-8 becomes bytes."""
    columns = {name: _values(batch.column(name)) for name in batch.schema.names}
    for number in range(batch.num_rows):
        yield Row({name: values[number] for name, values in columns.items()})


def _values(column: Any) -> list[Any]:
    """Values of a column; text that is not UTF-8 becomes bytes."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(cell) for cell in column]


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        return error.object


def _features(schema: Any) -> dict[str, Any]:
    """Features that Hugging Face ``datasets`` declared in the file; empty if there are none."""
    try:
        features = parse_json((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _kind(declared: dict[str, Any], name: str) -> str | None:
    feature = declared.get(name)
    return feature.get("_type") if isinstance(feature, dict) else None


def _classes(declared: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(map(str, declared[name].get("names") or ()))
        for name in declared
        if _kind(declared, name) == "ClassLabel" and declared[name].get("names")
    }
