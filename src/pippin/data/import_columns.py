# SPDX-License-Identifier: Apache-2.0
"""Which columns of an imported source hold pictures, captions and classes: settled once.

They are found in the first shard and hold for all, so a shard of another kind is refused instead
of giving other captions in silence.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pippin.config import Config, ConfigError
from pippin.data.config import ImportConfig
from pippin.data.import_sources import Shard, read_rows

PICTURES = ("image", "jpg", "jpeg", "png", "webp", "img", "picture")
CAPTIONS = ("caption", "text", "txt", "prompt")
LABELS = ("label", "cls", "class")
"""Columns that are looked for, in this order, where none is named."""
INNER = "json."
"""Begins the name of an entry of a WebDataset's json."""
LOOKED_AT = 5
"""Rows whose json is looked into for its entries."""


@dataclass(frozen=True, kw_only=True)
class Columns(Config):
    """Which columns hold what, in every shard."""

    FORMAT = "import"

    image: str
    captions: dict[str, str]
    """Column of metadata.jsonl -> column of the source."""
    label: str | None
    names: tuple[str, ...] | None
    """Of the classes, where labels are their numbers."""

    @property
    def entries(self) -> tuple[str, ...]:
        """Those columns that are entries of a json."""
        return tuple(name for name in self.needed if name.startswith(INNER))

    @property
    def needed(self) -> tuple[str, ...]:
        """All columns of the source that are read."""
        more = () if self.label is None else (self.label,)
        return tuple(dict.fromkeys((self.image, *self.captions.values(), *more)))

    def of(self, row: Mapping[str, Any]) -> dict[str, str]:
        """What metadata.jsonl says of a picture; empty cells are left out."""
        found: dict[str, str] = {}
        for ours, theirs in self.captions.items():
            value = _cell(row, theirs)
            # Several captions of one picture: each is a kind of its own.
            for place, one in enumerate(value if isinstance(value, list) else [value]):
                name = ours if place == 0 else f"caption_{ours.removeprefix('caption_')}_{place}"
                found[name] = _text(one)
        if self.label is not None:
            label = _cell(row, self.label)
            if self.names is None or not isinstance(label, int):
                found["label"] = _text(label)
            elif 0 <= label < len(self.names):  # -1 means that there is none
                found["label"] = self.names[label]
        return {name: text for name, text in found.items() if text}


def find_columns(config: ImportConfig, shard: Shard) -> Columns:
    """Named ones, or those that are looked for.

    Args:
        config: names columns, or leaves them to be found.
        shard: the first one.

    Raises:
        ConfigError: a named column is not there, or none holds pictures.
    """
    stream = shard.open()
    features = stream.features or {}
    rows = list(islice(read_rows(stream, shard.identity), LOOKED_AT))
    names = list(features) or list(rows[0] if rows else ())
    known = [*names, *dict.fromkeys(INNER + key for row in rows for key in _entries(row))]

    def chosen(option: str, given: str | None, wanted: Iterable[str]) -> str | None:
        if given is not None and given not in known:
            raise ConfigError(
                f"--{option} {given}: {config.source} has no such column; it has: "
                f"{', '.join(known)}"
            )
        both = (name for one in wanted for name in (one, INNER + one))
        return given or next((name for name in both if name in known), None)

    pictures = [name for name in names if type(features.get(name)).__name__ == "Image"]
    image = chosen("image", config.image, [*pictures, *PICTURES])
    if image is None:
        raise ConfigError(
            f"{config.source} has no column of pictures; say which one it is with --image; it "
            f"has: {', '.join(known)}"
        )
    label = chosen("label", config.label, LABELS)
    caption = chosen("caption", config.caption, CAPTIONS)
    captions = {} if caption is None else {"text": caption}
    for one in config.more_captions:
        chosen("more-captions", one, ())
        captions[f"caption_{one.removeprefix(INNER)}"] = one
    return Columns(
        image=image, captions=captions, label=label, names=_class_names(features, label)
    )


def checked_rows(columns: Columns, shard: Shard) -> Iterator[dict[str, Any]]:
    """The rows of a shard, which must have the columns and the class names of the first one.

    An entry of a json may be missing from some rows; that no row has it is seen at the end.

    Raises:
        ConfigError: naming the shard.
    """
    stream = shard.open()
    features = stream.features or {}
    unseen = {name for name in columns.needed if name not in features}
    if features:
        inside = columns.entries if "json" in features else ()
        _refuse_lacking(unseen - set(inside), features, shard)
    if (names := _class_names(features, columns.label)) != columns.names:
        raise ConfigError(
            f"{shard.identity}, names its classes otherwise than the first shard: "
            f"{_listed(names)} where that has {_listed(columns.names)}. Import it into a folder "
            "of its own"
        )
    row: dict[str, Any] = {}
    for row in read_rows(stream, shard.identity):
        unseen -= {*row, *(INNER + key for key in _entries(row))} if unseen else set()
        yield row
    if row:
        _refuse_lacking(unseen, row, shard)


def _refuse_lacking(lacking: set[str], known: Iterable[str], shard: Shard) -> None:
    if lacking:
        raise ConfigError(
            f"{shard.identity}, has no column {', '.join(sorted(lacking))}, which the first shard "
            f"has; it has: {', '.join(known)}. Import shards of other columns into a folder of "
            "their own, or name columns that all have"
        )


def _class_names(features: Mapping[str, Any], label: str | None) -> tuple[str, ...] | None:
    names = getattr(features.get(label), "names", None) if label else None
    return tuple(names) if names else None


def _listed(names: tuple[str, ...] | None) -> str:
    return ", ".join(names) if names else "none"


def _entries(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a WebDataset's json holds."""
    inner = row.get("json")
    return inner if isinstance(inner, dict) else {}


def _cell(row: Mapping[str, Any], column: str) -> Any:
    if column in row or not column.startswith(INNER):
        return row.get(column)
    return _entries(row).get(column.removeprefix(INNER))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return "" if value is None else " ".join(str(value).split())
