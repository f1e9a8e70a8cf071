# SPDX-License-Identifier: Apache-2.0
"""Rows of a parquet file, read in batches. Images are not decoded; a bad cell affects one row."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from pippin.data.import_names import find_name
from pippin.data.import_rows import BinaryFile, OpenShard, Row, ShardSchema
from pippin.system.json_text import parse_json

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
        rows=_rows(table, _columns_of(requested, names)),
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


def _rows(table: Any, names: list[str]) -> Iterator[Row]:
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
