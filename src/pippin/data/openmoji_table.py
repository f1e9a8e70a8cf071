# SPDX-License-Identifier: Apache-2.0
"""Table of OpenMoji's emoji, their classes, and the split into train and held-out."""

import csv
import hashlib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

Split = Literal["train", "held-out"]

HELD_OUT_SHARE = 0.1
"""Expected share of held-out families."""

CLASSES = (
    "smileys-emotion",
    "people-body",
    "animals-nature",
    "food-drink",
    "travel-places",
    "activities",
    "objects",
    "symbols",
    "flags",
    "extras-openmoji",
    "extras-unicode",
)
"""Class names in the order of ids: Unicode's groups except ``component``, and two extras."""


@dataclass(frozen=True)
class Emoji:
    """Row of the table; all fields are text as in OpenMoji."""

    hexcode: str
    name: str
    group: str
    subgroup: str
    tags: str
    """Comma-separated; empty for toned variants."""
    skintone: str
    """1 (light) to 5 (dark), two digits for two persons; empty: untoned."""
    base: str
    """Hexcode of the untoned emoji; empty for an untoned one."""
    family: str
    """Hexcode of the first emoji of the family."""


COLUMNS = tuple(field.name for field in fields(Emoji))


def table_bytes() -> bytes:
    """Content of the shipped table file."""
    return (files("pippin.data") / "tables" / "openmoji.csv").read_bytes()


@cache
def read_table() -> tuple[Emoji, ...]:
    """All 4495 emoji in OpenMoji's order, components included."""
    rows = csv.DictReader(table_bytes().decode("utf-8").splitlines())
    return tuple(Emoji(**row) for row in rows)


def split_of(family: str) -> Split:
    """Split of a family, fixed by a hash of its key.

    The first 8 bytes of the SHA-256 of the key, as a fraction of one, are below
    ``HELD_OUT_SHARE`` for held-out families. There is no seed: the split never changes.
    """
    digest = hashlib.sha256(f"openmoji/{family}".encode()).digest()
    return "held-out" if int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64 else "train"


def emojis_of_split(split: str) -> tuple[Emoji, ...]:
    """Emoji of one split, with toned variants and without components.

    Raises:
        ValueError: an unknown split.
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {get_args(Split)}; got {split!r}")
    return tuple(p for p in read_table() if p.group in CLASSES and split_of(p.family) == split)
