# SPDX-License-Identifier: Apache-2.0
"""Agreement of an image with its caption, attribute by attribute."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from pippin.evaluation.scene.reader import DetectedObject, Reading

MIN_DISTANCE = 1 / 6
"""Smallest difference of centres for a relation to hold, in shares of the image's side: half a
cell."""
ATTRIBUTES = ("colour", "shape", "size", "place", "count", "relation", "background")
OBJECT_ATTRIBUTES = ATTRIBUTES[:4]


@dataclass(frozen=True, kw_only=True)
class StatedObject:
    """Statement about one object; None = not stated."""

    colour: str | None = None
    shape: str | None = None
    size: str | None = None
    place: int | None = None


@dataclass(frozen=True, kw_only=True)
class Statement:
    """Statement of a caption or a class."""

    objects: tuple[StatedObject, ...]
    counts: bool = True
    """True if it states that there are no other objects."""
    relation: str | None = None
    """Position of the first object relative to the second: left of, right of, above, below."""
    background: str | None = None

    @property
    def attributes(self) -> tuple[str, ...]:
        """Stated attributes, of :data:`ATTRIBUTES`."""
        names = {name for name in OBJECT_ATTRIBUTES if getattr(self.objects[0], name) is not None}
        names |= {"count"} if self.counts else set()
        names |= {n for n in ("relation", "background") if getattr(self, n) is not None}
        return tuple(name for name in ATTRIBUTES if name in names)


def agreement(reading: Reading, statement: Statement) -> dict[str, bool]:
    """True if the image shows each stated attribute, and ``all`` of them.

    Detected objects are assigned to stated ones so that most attributes agree. An attribute of
    objects is correct if it is correct for all stated objects. It is wrong if an object is
    missing, or if the shape is mirrored.
    """
    stated = statement.attributes
    slots: list[DetectedObject | None] = [*reading.objects, *([None] * len(statement.objects))]
    best: dict[str, bool] = {}
    best_score = -1.0
    for assignment in permutations(range(len(slots)), len(statement.objects)):
        objects = [slots[slot] for slot in assignment]
        matches = [
            _matches(detected, stated_object)
            for detected, stated_object in zip(objects, statement.objects, strict=True)
        ]
        correct = {
            name: all(match[name] for match in matches)
            for name in stated
            if name in OBJECT_ATTRIBUTES
        }
        if "relation" in stated:
            correct["relation"] = _holds(statement.relation, objects)
        # Single matches break ties between assignments with equally many correct attributes.
        score = sum(correct.values()) + 1e-3 * sum(sum(match.values()) for match in matches)
        if score > best_score:
            best, best_score = correct, score
    if "count" in stated:
        best["count"] = len(reading.objects) == len(statement.objects)
    if "background" in stated:
        best["background"] = reading.background == statement.background
    ordered = {name: best[name] for name in stated}
    return ordered | {"all": all(ordered.values())}


def _matches(detected: DetectedObject | None, stated_object: StatedObject) -> dict[str, bool]:
    """True if one object has each attribute stated about it."""
    stated = {n: v for n in OBJECT_ATTRIBUTES if (v := getattr(stated_object, n)) is not None}
    if detected is None:
        return dict.fromkeys(stated, False)
    matches = {name: getattr(detected, name) == value for name, value in stated.items()}
    if "shape" in matches:
        matches["shape"] &= not detected.mirrored
    return matches


def _holds(relation: str | None, objects: Sequence[DetectedObject | None]) -> bool:
    first, second = objects[0], objects[1]
    if first is None or second is None:
        return False
    right, down = (b - a for a, b in zip(first.centre, second.centre, strict=True))
    ahead = {"left of": right, "right of": -right, "above": down, "below": -down}
    return ahead[str(relation)] > MIN_DISTANCE
