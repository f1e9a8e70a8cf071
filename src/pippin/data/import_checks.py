# SPDX-License-Identifier: Apache-2.0
"""Whether a shard has what the first one has: refused by name where it does not."""

from collections.abc import Collection, Iterable, Sequence

from pippin.config import ConfigError
from pippin.data.import_cells import RowReader
from pippin.data.import_columns import Columns
from pippin.data.import_names import find_name, listed, shown
from pippin.data.import_rows import OpenShard


def check_table(columns: Columns, opened: OpenShard, identity: str) -> None:
    """Refuse a table that lacks a column of the first shard, or names its classes otherwise.

    Raises:
        ConfigError: naming the shard.
    """
    if not opened.columns:
        return
    lacking = [name for name in columns.needed if not _may_have(name, opened.columns)]
    _refuse_lacking(lacking, opened.columns, identity)
    names = opened.classes.get(columns.label) if columns.label else None
    if columns.label and names != columns.names:
        raise ConfigError(
            f"{identity}, names its classes otherwise than the first shard: {_listed(names)} "
            f"where that has {_listed(columns.names)}. Import it into a folder of its own"
        )


def check_rows(reader: RowReader, opened: OpenShard, identity: str) -> None:
    """Refuse a shard of which no row had a column that all shards must have, or had it as text.

    An entry of a json may be missing from some rows.

    Args:
        reader: of all rows.
        opened: the shard.
        identity: of the shard.

    Raises:
        ConfigError: naming the shard.
    """
    if not reader.seen and not reader.unread:
        return  # it has no rows
    columns = reader.columns
    lacking = [name for name in columns.needed if name not in reader.seen]
    known = opened.columns or [*reader.unread, *reader.seen]
    _refuse_lacking(lacking, known, identity)
    for role, candidates in (*columns.texts.items(), ("label", columns.labels)):
        if len(candidates) != 1 or reader.taken[role]:
            continue
        start = f"{candidates[0]} (".casefold()
        for note in (note for note in reader.unread if note.casefold().startswith(start)):
            raise ConfigError(
                f"{identity}: {shown(note)} is no text in any row. Name an entry of it, such as "
                f"{candidates[0]}.NAME, or none"
            )


def _may_have(name: str, table: Collection[str]) -> bool:
    """Whether a table has a column, or one that may have it as an entry."""
    parts = name.split(".")
    return any(find_name(".".join(parts[:end]), table) for end in range(1, len(parts) + 1))


def _refuse_lacking(lacking: Sequence[str], known: Iterable[str], identity: str) -> None:
    if lacking:
        raise ConfigError(
            f"{identity}, has no column {', '.join(sorted(lacking))}, which the first shard has; "
            f"it has: {listed(known)}. Import shards of other columns into a folder of their "
            "own, or name columns that all have"
        )


def _listed(names: tuple[str, ...] | None) -> str:
    return ", ".join(names) if names else "none"
