# SPDX-License-Identifier: Apache-2.0
"""Checks that all shards of an import have the columns of the first one."""

from collections.abc import Collection, Iterable, Sequence

from pippin.config import ConfigError
from pippin.data.import_cells import RowReader
from pippin.data.import_columns import Columns
from pippin.data.import_names import find_name, join_names, printable
from pippin.data.import_rows import OpenShard


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
