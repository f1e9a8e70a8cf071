# SPDX-License-Identifier: Apache-2.0
"""Accuracy: the share of images that show what they were asked for, attribute by attribute.

    accuracy ATTRIBUTE            over all kinds of captions that state it
    accuracy ATTRIBUTE KIND       over the captions of one kind
    ... shuffled                  with what is stated exchanged among the images: the floor

The same of autoencoded real images, ``subject="real"``, is the ceiling. Scenes are the sample of
every interval: a scene that is asked for by several kinds of captions counts as one image.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from pippin.evaluation.alignment import wilson
from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.scene.reader import Reading
from pippin.evaluation.scene.score import ATTRIBUTES, Statement, agreement

ALL = "all"
"""All that is stated, at once."""


def accuracy_measures(
    readings: Mapping[str, Sequence[Reading]],
    statements: Mapping[str, Sequence[Statement]],
    *,
    subject: Subject,
    order: Int[Tensor, " scenes"] | None = None,
    protocol: Mapping[str, Any],
) -> list[Measure]:
    """Accuracies of images, each with Wilson's interval over scenes.

    Args:
        readings: kind of caption -> one image's reading a scene.
        statements: kind of caption -> what was asked for, scene by scene; the same scenes for all.
        subject: whose images they are.
        order: exchanges statements among images, for the floor; by kind only ``all`` is then
            given.
        protocol: of the images.
    """
    agreements = {
        kind: [
            agreement(reading, statements[kind][place])
            for reading, place in zip(read, _order(order, len(read)), strict=True)
        ]
        for kind, read in readings.items()
    }
    pooled = partial(_pooled, subject=subject, shuffled=order is not None, protocol=dict(protocol))
    measures = [
        pooled(name, list(agreements.values()))
        for name in (*ATTRIBUTES, ALL)
        if any(name in one for found in agreements.values() for one in found)
    ]
    if len(agreements) > 1:
        for kind, found in agreements.items():
            stated = [n for n in (*ATTRIBUTES, ALL) if any(n in one for one in found)]
            for name in stated if order is None else [ALL]:
                measures.append(pooled(name, [found], kind=kind))
    return measures


def _order(order: Int[Tensor, " scenes"] | None, count: int) -> Sequence[int]:
    return range(count) if order is None else order.tolist()


def _pooled(
    name: str,
    agreements: Sequence[Sequence[Mapping[str, bool]]],
    *,
    subject: Subject,
    shuffled: bool,
    protocol: dict[str, Any],
    kind: str | None = None,
) -> Measure:
    """The mean over scenes of the share of kinds at which an attribute is right."""
    values = []
    for of_scene in zip(*agreements, strict=True):
        right = [one[name] for one in of_scene if name in one]
        if right:
            values.append(sum(right) / len(right))
    share = float(torch.tensor(values, dtype=torch.float64).mean())
    low, high = wilson(share, len(values))
    return Measure(
        name=" ".join(filter(None, ["accuracy", name, kind, "shuffled" if shuffled else None])),
        value=share,
        low=low,
        high=high,
        interval_over="samples",
        n=len(values),
        unit="share",
        better="neither" if shuffled else "higher",
        subject=subject,
        protocol=protocol,
    )
