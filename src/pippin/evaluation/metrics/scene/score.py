# SPDX-License-Identifier: Apache-2.0
"""Accuracy: the share of images that show what their caption states, attribute by attribute.

    accuracy ATTRIBUTE            over all kinds of captions that state it
    accuracy ATTRIBUTE KIND       over the captions of one kind
    ... shuffled                  with statements shuffled among the images: the floor

The accuracy of autoencoded real images, ``subject="real"``, is the ceiling. Scenes are the sample
of every interval: a scene with several kinds of captions counts as one image.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.metric import Metric
from pippin.evaluation.metrics.declared.scene import ACCURACY
from pippin.evaluation.metrics.scene.reader import DetectedObject, Reading
from pippin.evaluation.proportion import wilson_interval

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
    rows = [
        [_matches(slot, stated_object) for stated_object in statement.objects] for slot in slots
    ]
    best: dict[str, bool] = {}
    best_score = -1.0
    for assignment in permutations(_candidates(rows, statement), len(statement.objects)):
        objects = [slots[slot] for slot in assignment]
        matches = [rows[slot][number] for number, slot in enumerate(assignment)]
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


def _candidates(rows: Sequence[Sequence[Mapping[str, bool]]], statement: Statement) -> list[int]:
    """Slots that an assignment is searched among: the result is that of all slots.

    Slots with the same matches are interchangeable unless a relation asks where they are, so as
    many as there are stated objects suffice. Damaged images can have dozens of objects, and
    the search grows with the power of their number.
    """
    if statement.relation is not None:
        return list(range(len(rows)))
    kept, counts = [], Counter[tuple[tuple[bool, ...], ...]]()
    for slot, row in enumerate(rows):
        key = tuple(tuple(match.values()) for match in row)
        counts[key] += 1
        if counts[key] <= len(row):
            kept.append(slot)
    return kept


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


CLASS = "class"
"""Kind of the only statements of class-conditional models, in place of a kind of caption."""
ALL = "all"
"""All stated attributes together."""


def accuracy_measures(
    readings: Mapping[str, Sequence[Reading]],
    statements: Mapping[str, Sequence[Statement]],
    *,
    subject: Subject,
    order: Int[Tensor, " scenes"] | None = None,
    protocol: Mapping[str, Any],
) -> list[Measure]:
    """Accuracies of images, each with Wilson's interval over scenes; those of each kind of caption
    too, also where there is one kind only.

    Args:
        readings: kind of caption -> the reading of one image per scene.
        statements: kind of caption -> statement of each scene; the same scenes for all kinds.
        subject: whose images they are.
        order: permutation of the statements, for the floor; by kind, only ``all`` is then
            measured.
        protocol: protocol of the images.
    """
    agreements = {
        kind: [
            agreement(*pair) for pair in read_statements(kind_readings, statements[kind], order)
        ]
        for kind, kind_readings in readings.items()
    }
    pooled = partial(_pooled, subject=subject, shuffled=order is not None, protocol=dict(protocol))
    measures = [
        pooled(name, list(agreements.values()))
        for name in (*ATTRIBUTES, ALL)
        if any(
            name in agreed for kind_agreements in agreements.values() for agreed in kind_agreements
        )
    ]
    if set(agreements) != {CLASS}:
        for kind, kind_agreements in agreements.items():
            stated = [
                n for n in (*ATTRIBUTES, ALL) if any(n in agreed for agreed in kind_agreements)
            ]
            for name in stated if order is None else [ALL]:
                measures.append(pooled(name, [kind_agreements], kind=kind))
    return measures


def read_statements(
    readings: Sequence[Reading],
    statements: Sequence[Statement],
    order: Int[Tensor, " scenes"] | None,
) -> Iterator[tuple[Reading, Statement]]:
    """Readings with their statements, or with those that a permutation puts in their place."""
    indices = range(len(readings)) if order is None else order.tolist()
    return zip(readings, [statements[index] for index in indices], strict=True)


def _pooled(
    name: str,
    agreements: Sequence[Sequence[Mapping[str, bool]]],
    *,
    subject: Subject,
    shuffled: bool,
    protocol: dict[str, Any],
    kind: str | None = None,
) -> Measure:
    """Mean over scenes of the share of caption kinds for which an attribute is correct."""
    metric = ACCURACY(attribute=name, captions=kind or "", shuffled="shuffled" if shuffled else "")
    values = [v for v in scene_shares(agreements, name) if not math.isnan(v)]
    return share_measure(metric, values, subject=subject, protocol=protocol)


def scene_shares(agreements: Sequence[Sequence[Mapping[str, bool]]], name: str) -> list[float]:
    """Share of caption kinds for which a name is correct, by scene; NaN where none states it.

    Args:
        agreements: for each kind of caption, the agreements of each scene.
        name: a key of the agreements.
    """
    shares = []
    for scene_agreements in zip(*agreements, strict=True):
        hits = [agreed[name] for agreed in scene_agreements if name in agreed]
        shares.append(sum(hits) / len(hits) if hits else math.nan)
    return shares


def share_measure(
    metric: Metric, values: Sequence[float], *, subject: Subject, protocol: dict[str, Any]
) -> Measure:
    """Mean of shares of scenes, with Wilson's interval."""
    share = float(torch.tensor(values, dtype=torch.float64).mean())
    low, high = wilson_interval(share, len(values))
    return Measure.of(
        metric,
        share,
        low=low,
        high=high,
        interval_over="samples",
        n=len(values),
        subject=subject,
        protocol=protocol,
    )
