# SPDX-License-Identifier: Apache-2.0
"""Accuracy by the six tasks of GenEval (Ghosh et al. 2023, arXiv 2310.11513), read from shapes.

A task asks for a part of what a caption states:

    single-object         the shape, of one object
    two-objects           both shapes
    counting              all shapes, and no further object
    colours               shape and colour, of one object
    position              both shapes, and their relation
    colour-attribution    both shapes, each in its own colour

GenEval finds objects with a detector and names colours with CLIP. Here both are computed from
pixels, of other images and captions, so the figures of the two are not comparable.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pippin.evaluation.measure import Jackknife, Measure, Subject
from pippin.evaluation.metrics.declared.scene import TASK_ACCURACY, TASKS
from pippin.evaluation.metrics.scene.reader import Reading
from pippin.evaluation.metrics.scene.score import (
    ALL,
    OBJECT_ATTRIBUTES,
    StatedObject,
    Statement,
    agreement,
    read_statements,
    scene_shares,
    share_measure,
)

MEAN = "mean"
"""Mean over the tasks, as GenEval's overall score."""


class Task(NamedTuple):
    """Attributes and captions of a task."""

    attributes: tuple[str, ...]
    """Asked attributes, of :data:`pippin.evaluation.metrics.scene.score.ATTRIBUTES`."""
    objects: int | None = None
    """Number of objects of its captions; None = any."""


_ASKED = {
    "single-object": Task(("shape",), objects=1),
    "two-objects": Task(("shape",), objects=2),
    "counting": Task(("shape", "count")),
    "colours": Task(("colour", "shape"), objects=1),
    "position": Task(("shape", "relation"), objects=2),
    "colour-attribution": Task(("colour", "shape"), objects=2),
}


def task_statement(statement: Statement, task: str) -> Statement | None:
    """The part of a statement that a task asks for; None if the statement does not pose it."""
    attributes, count = _ASKED[task]
    if count not in (None, len(statement.objects)):
        return None
    if not set(attributes) <= set(statement.attributes):
        return None
    objects = tuple(
        StatedObject(**{n: getattr(one, n) for n in OBJECT_ATTRIBUTES if n in attributes})
        for one in statement.objects
    )
    relation = statement.relation if "relation" in attributes else None
    return Statement(objects=objects, counts="count" in attributes, relation=relation)


def task_measures(
    readings: Mapping[str, Sequence[Reading]],
    statements: Mapping[str, Sequence[Statement]],
    *,
    subject: Subject,
    order: Int[Tensor, " scenes"] | None = None,
    protocol: Mapping[str, Any],
) -> list[Measure]:
    """Accuracy in each task that a caption poses, with Wilson's interval over scenes; and, if two
    scenes pose each, their mean with a jackknife interval over scenes.

    Args:
        readings: kind of caption -> the reading of one image per scene.
        statements: kind of caption -> statement of each scene; the same scenes for all kinds.
        subject: whose images they are.
        order: permutation of the statements, for the floor.
        protocol: protocol of the images.
    """
    results = [
        [_task_results(*pair) for pair in read_statements(of_kind, statements[kind], order)]
        for kind, of_kind in readings.items()
    ]
    shares = torch.tensor([scene_shares(results, task) for task in TASKS], dtype=torch.float64)
    shuffled = "" if order is None else "shuffled"
    measures = [
        share_measure(
            TASK_ACCURACY(task=task, shuffled=shuffled),
            row[~row.isnan()].tolist(),
            subject=subject,
            protocol=dict(protocol),
        )
        for task, row in zip(TASKS, shares, strict=True)
        if not row.isnan().all()
    ]
    if bool(((~shares.isnan()).sum(1) > 1).all()):
        jackknife = mean_of_tasks(shares)
        low, high = jackknife.interval(0, 1)
        measures.append(
            Measure.of(
                TASK_ACCURACY(task=MEAN, shuffled=shuffled),
                jackknife.value,
                low=low,
                high=high,
                interval_over="samples",
                n=shares.shape[1],
                subject=subject,
                protocol=dict(protocol),
            )
        )
    return measures


def _task_results(reading: Reading, statement: Statement) -> dict[str, bool]:
    """Task that a statement poses -> True if the image shows all it asks for."""
    parts = {task: task_statement(statement, task) for task in TASKS}
    return {
        task: agreement(reading, part)[ALL] for task, part in parts.items() if part is not None
    }


def mean_of_tasks(shares: Float[Tensor, "tasks scenes"]) -> Jackknife:
    """Mean over tasks of their mean over scenes, and the same without each scene in turn.

    Args:
        shares: share of correct images of a scene, 0 to 1; NaN where it does not pose the task.
            Two scenes or more pose each task.
    """
    posed = ~shares.isnan()
    counts, sums = posed.sum(1, keepdim=True), shares.nansum(1, keepdim=True)
    means = (sums - shares.nan_to_num()) / (counts - posed.long())
    return Jackknife(value=float((sums / counts).mean()), leave_one_out=means.mean(0))
