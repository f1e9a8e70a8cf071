# SPDX-License-Identifier: Apache-2.0
"""Does an image show what its caption states? Attribute by attribute, yes or no."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from pippin.evaluation.scene.reader import Reading, ReadThing

APART = 1 / 6
"""Share of the image's side by which centres must differ for a relation to hold: half a cell."""
ATTRIBUTES = ("colour", "shape", "size", "place", "count", "relation", "background")
OF_THINGS = ATTRIBUTES[:4]


@dataclass(frozen=True, kw_only=True)
class StatedThing:
    """What is stated of one object; None = nothing."""

    colour: str | None = None
    shape: str | None = None
    size: str | None = None
    place: int | None = None


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a caption or a class states."""

    things: tuple[StatedThing, ...]
    counts: bool = True
    """Whether it says that there are no other objects."""
    relation: str | None = None
    """How the first object lies to the second: left of, right of, above, below."""
    background: str | None = None

    @property
    def attributes(self) -> tuple[str, ...]:
        """What is stated, of :data:`ATTRIBUTES`."""
        found = {name for name in OF_THINGS if getattr(self.things[0], name) is not None}
        found |= {"count"} if self.counts else set()
        found |= {n for n in ("relation", "background") if getattr(self, n) is not None}
        return tuple(name for name in ATTRIBUTES if name in found)


def agreement(reading: Reading, statement: Statement) -> dict[str, bool]:
    """Of each attribute that is stated, and of ``all``, whether the image shows it.

    The objects that were read are assigned to those that are stated so that most attributes agree.
    An attribute of objects is right where it is right of all that are stated; it is not where an
    object is missing, or where a mirrored shape stands for the shape.
    """
    stated = statement.attributes
    slots: list[ReadThing | None] = [*reading.things, *([None] * len(statement.things))]
    best: dict[str, bool] = {}
    most = -1.0
    for chosen in permutations(range(len(slots)), len(statement.things)):
        things = [slots[place] for place in chosen]
        hits = [_hits(one, wanted) for one, wanted in zip(things, statement.things, strict=True)]
        right = {name: all(hit[name] for hit in hits) for name in stated if name in OF_THINGS}
        if "relation" in stated:
            right["relation"] = _holds(statement.relation, things)
        # Single hits decide between assignments that have equally many attributes right.
        score = sum(right.values()) + 1e-3 * sum(sum(hit.values()) for hit in hits)
        if score > most:
            best, most = right, score
    if "count" in stated:
        best["count"] = len(reading.things) == len(statement.things)
    if "background" in stated:
        best["background"] = reading.background == statement.background
    ordered = {name: best[name] for name in stated}
    return ordered | {"all": all(ordered.values())}


def _hits(thing: ReadThing | None, wanted: StatedThing) -> dict[str, bool]:
    """Of one object, what is right of what is stated."""
    stated = {n: v for n in OF_THINGS if (v := getattr(wanted, n)) is not None}
    if thing is None:
        return dict.fromkeys(stated, False)
    hits = {name: getattr(thing, name) == value for name, value in stated.items()}
    if "shape" in hits:
        hits["shape"] &= not thing.mirrored
    return hits


def _holds(relation: str | None, things: Sequence[ReadThing | None]) -> bool:
    first, second = things[0], things[1]
    if first is None or second is None:
        return False
    right, down = (b - a for a, b in zip(first.centre, second.centre, strict=True))
    ahead = {"left of": right, "right of": -right, "above": down, "below": -down}
    return ahead[str(relation)] > APART
