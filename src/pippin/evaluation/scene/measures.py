# SPDX-License-Identifier: Apache-2.0
"""Accuracy: the share of images that show what their caption states, attribute by attribute.

    accuracy ATTRIBUTE            over all kinds of captions that state it
    accuracy ATTRIBUTE KIND       over the captions of one kind
    ... shuffled                  with statements shuffled among the images: the floor

The accuracy of autoencoded real images, ``subject="real"``, is the ceiling. Scenes are the sample
of every interval: a scene with several kinds of captions counts as one image.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from pippin.evaluation.alignment import wilson
from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.metrics.scene import ACCURACY
from pippin.evaluation.scene.reader import Reading
from pippin.evaluation.scene.score import ATTRIBUTES, Statement, agreement

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
    """Accuracies of images, each with Wilson's interval over scenes.

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
            agreement(reading, statements[kind][index])
            for reading, index in zip(
                kind_readings, _order(order, len(kind_readings)), strict=True
            )
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
    if len(agreements) > 1:
        for kind, kind_agreements in agreements.items():
            stated = [
                n for n in (*ATTRIBUTES, ALL) if any(n in agreed for agreed in kind_agreements)
            ]
            for name in stated if order is None else [ALL]:
                measures.append(pooled(name, [kind_agreements], kind=kind))
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
    """Mean over scenes of the share of caption kinds for which an attribute is correct."""
    values = []
    for scene_agreements in zip(*agreements, strict=True):
        hits = [agreed[name] for agreed in scene_agreements if name in agreed]
        if hits:
            values.append(sum(hits) / len(hits))
    share = float(torch.tensor(values, dtype=torch.float64).mean())
    low, high = wilson(share, len(values))
    return Measure.of(
        ACCURACY(attribute=name, captions=kind or "", shuffled="shuffled" if shuffled else ""),
        share,
        low=low,
        high=high,
        interval_over="samples",
        n=len(values),
        subject=subject,
        protocol=protocol,
    )
