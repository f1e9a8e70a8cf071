# SPDX-License-Identifier: Apache-2.0
"""Table of OpenMoji's emoji: classes, split, and families of variants.

A family contains the variants of one image, which must stay in the same split. Two images belong
to one family if they share a key, directly or through other images. An image has

- a *code key*: its first joined element, or, for a person, the element that the person is joined
  to. Variation selectors, skin tones, gender signs, hair and the sign "facing right" are ignored,
  and man, woman, boy, girl, old man, ... all count as "person".
- a *name key*: its name without words for gender, direction, colour, size and order.
- sometimes an *alias*: variants (and identical images) that neither code nor name reveals.

The person running, the man running and the woman running facing right are one family; so are a cat
and a black cat; all plain hearts; all clock faces. A cook and a farmer are two families, and so
are two expressions of the yellow face. Families are too large rather than too small: a leak
between the splits invalidates a measurement, an unnecessary merger does not.
"""

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping
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


_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
_VARIATION_SELECTOR = "FE0F"
_JOINER = "200D"
_PERSONS = {
    *("1F468", "1F469", "1F9D1"),  # man, woman, person
    *("1F466", "1F467", "1F9D2", "1F476"),  # boy, girl, child, baby
    *("1F474", "1F475", "1F9D3"),  # older adults
    *("1F471", "1F9D4"),  # blond hair, beard
    *("1F64D", "1F64E"),  # frowning, pouting: a brow apart
}
_MODIFIERS = {
    *("2640", "2642"),  # gender
    "27A1",  # facing right
    *("1F9B0", "1F9B1", "1F9B2", "1F9B3"),  # hair
}
_BETWEEN_COUPLES = {"1F91D", "2764"}  # holding hands; heart and kiss

_ALIASES = {
    "family": ["1F46A"],
    "couple": ["1F46B", "1F46C", "1F46D", "1F48F", "1F491"],
    "royalty": ["1F934", "1F478", "1FAC5"],
    "claus": ["1F385", "1F936", "with 1F384"],
    "dancing": ["1F483", "1F57A"],
    "pregnant": ["1F930", "1FAC3", "1FAC4"],
    "feeding baby": ["1F931", "with 1F37C"],
    "health worker": ["with 2695", "E300", "E301", "E302", "E303"],
    "silhouette": ["1F464", "1F465"],
    "room sign": ["1F6B9", "1F6BA", "1F6BB"],
    "silhouette of a stick figure": ["1FBC5", "1FBC6", "1FBC7", "1FBC8", "1FBC9"],
    "lock": ["1F512", "1F513"],
    # drawn alike, to the pixel or nearly so
    "face with horns": ["1F608", "1F47F"],
    "frowning face": ["1F641", "2639"],
    "disc": ["1F534", "1F315", "1F311"],
    "six-pointed star": ["1F52F", "2721"],
    "flag of Australia": ["1F1E6-1F1FA", "1F1ED-1F1F2"],
    "flag of France": ["1F1E8-1F1F5", "1F1EB-1F1F7", "1F1F2-1F1EB"],
    "flag of Spain": ["1F1EA-1F1E6", "1F1EA-1F1F8"],
    "flag of Indonesia": ["1F1EE-1F1E9", "1F1F2-1F1E8"],
    "flag of Norway": ["1F1F3-1F1F4", "1F1F8-1F1EF", "1F1E7-1F1FB"],
    "flag of Romania": ["1F1F7-1F1F4", "1F1F9-1F1E9"],
    "flag of Saint Helena": ["1F1F8-1F1ED", "1F1F9-1F1E6"],
    "flag of the Canary Islands": ["1F1EE-1F1E8", "1F3F4-E0065-E0073-E0063-E006E-E007F"],
    "flag of the Indian Ocean Territory": ["1F1EE-1F1F4", "1F1E9-1F1EC"],
    "flag of the United States": ["1F1FA-1F1F8", "1F1FA-1F1F2"],
    "rectangle": ["25AD", "1F3F3"],
    "keycap": ["20E3", "1F7E6"],
}
_ALIAS_OF = {code: alias for alias, codes in _ALIASES.items() for code in codes}

COLOURS = "red|orange|yellow|green|light blue|blue|purple|brown|black|white|grey|pink|deep"
"""Colour words in names of images, as alternatives of a regular expression."""
_VARIANT_WORDS = re.compile(
    r"(?<![\w-])("
    r"m[ae]n|wom[ae]n|persons?|people|boys?|girls?|male|female"
    r"|(left|right|up|down)(-(left|right|up|down))*(-facing|-pointing|wards)?"
    r"|facing|upwards|downwards|oncoming|(counter|anti)?clockwise"
    rf"|{COLOURS}"
    r"|large|small|medium|medium-small|low|high|1st|2nd|3rd|open|closed"
    r")(?![\w-])"
)
_SERIES = {
    "keycap": re.compile(r"keycap:.*"),
    "regional indicator": re.compile(r"regional indicator .*"),
    "clock face": re.compile(r".*(o.clock|-thirty)"),
}


def family_keys(hexcode: str, name: str) -> tuple[str, ...]:
    """Keys of one image; images that share a key belong to one family.

    Args:
        hexcode: code points joined by hyphens, as OpenMoji names its files.
        name: OpenMoji's annotation.
    """
    code = _code_key(hexcode)
    keys = [f"code {code}", f"name {_name_key(name)}"]
    if code in _ALIAS_OF:
        keys.append(f"alias {_ALIAS_OF[code]}")
    return tuple(keys)


def _code_key(hexcode: str) -> str:
    """First joined element; ``with CODE`` for a person with an object."""
    elements = [
        "-".join(c for c in element.split("-") if c not in {*_TONES, _VARIATION_SELECTOR, ""})
        for element in hexcode.split(_JOINER)
    ]
    first, rest = elements[0], [e for e in elements[1:] if e not in _MODIFIERS]
    if first not in _PERSONS:
        return first
    objects = [element for element in rest if element not in _PERSONS]
    if objects:
        return "1F46B" if objects[0] in _BETWEEN_COUPLES else f"with {objects[0]}"
    return "1F46A" if rest else "1F9D1"


def _name_key(name: str) -> str:
    """Name in lower case without the words that distinguish variants."""
    name = name.strip().lower()
    for series, pattern in _SERIES.items():
        if pattern.fullmatch(name):
            return series
    words = re.sub(r"[:,\s]+", " ", _VARIANT_WORDS.sub(" ", name)).strip()
    return words or "person"


def assign_families(names: Mapping[str, str]) -> dict[str, str]:
    """Family of every image: the hexcode of the first member.

    Args:
        names: base hexcode -> name; the order decides which member names the family.

    Returns:
        hexcode -> family, in the same order.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for hexcode, name in names.items():
        _join(parent, [root(key) for key in family_keys(hexcode, name)])
    first: dict[str, str] = {}
    return {
        hexcode: first.setdefault(root(family_keys(hexcode, name)[0]), hexcode)
        for hexcode, name in names.items()
    }


def _join(parent: dict[str, str], roots: Iterable[str]) -> None:
    """Make the first root the parent of the others."""
    head, *others = roots
    for other in others:
        parent[other] = head
