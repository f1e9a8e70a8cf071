# SPDX-License-Identifier: Apache-2.0
"""The table of OpenMoji's pictures, their classes, and the split into train and held-out."""

import csv
import hashlib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

Split = Literal["train", "held-out"]

HELD_OUT_SHARE = 0.1
"""Expected share of families that are held out."""

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
"""The classes, in the order of their ids: Unicode's groups but ``component``, and two extras."""


@dataclass(frozen=True)
class Picture:
    """One row of the table; all fields are text as OpenMoji writes it."""

    hexcode: str
    name: str
    group: str
    subgroup: str
    tags: str
    """Comma-separated; empty for toned variants."""
    skintone: str
    """1 (light) to 5 (dark), two of them for two persons; empty: untoned."""
    base: str
    """The untoned picture's hexcode; empty for an untoned picture."""
    family: str
    """The hexcode of the first picture of its family."""


COLUMNS = tuple(field.name for field in fields(Picture))


def table_bytes() -> bytes:
    """The table file as shipped."""
    return (files("pippin.data") / "tables" / "openmoji.csv").read_bytes()


@cache
def read_table() -> tuple[Picture, ...]:
    """All 4495 pictures in OpenMoji's order, components included."""
    rows = csv.DictReader(table_bytes().decode("utf-8").splitlines())
    return tuple(Picture(**row) for row in rows)


def split_of(family: str) -> Split:
    """Which side of the split a family is on: fixed by a hash of its key.

    The first 8 bytes of SHA-256 of the key, read as a fraction of one, are below
    ``HELD_OUT_SHARE`` for held-out families. No seed enters: the split never changes.
    """
    digest = hashlib.sha256(f"openmoji/{family}".encode()).digest()
    return "held-out" if int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64 else "train"


def pictures_of(split: str) -> tuple[Picture, ...]:
    """The pictures of one split, toned variants included, components left out.

    Raises:
        ValueError: an unknown split.
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {get_args(Split)}; got {split!r}")
    return tuple(p for p in read_table() if p.group in CLASSES and split_of(p.family) == split)
