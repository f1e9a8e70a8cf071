# SPDX-License-Identifier: Apache-2.0
"""Accuracy of shapes; computed by :mod:`pippin.evaluation.metrics.scene.score` and
:mod:`pippin.evaluation.metrics.scene.tasks`."""

from pippin.evaluation.metric import Metric, MetricKind
from pippin.evaluation.metric_parameters import SHUFFLED, Choice, Suffix
from pippin.evaluation.metric_registry import ship_metric
from pippin.evaluation.metrics.declared.shuffled import (
    higher_unless_shuffled,
    with_chance_level,
)

_STATED = {
    "colour": "the colours",
    "shape": "the shapes, the right way round,",
    "size": "the sizes",
    "place": "the places",
    "count": "the number of objects",
    "relation": "the relation of the two objects",
    "background": "the background",
    "all": "all",
}
"""Attribute of a scene -> its name within a sentence."""


def _words(metric: Metric) -> str:
    captions = metric.value("captions")
    text = f"Share of samples that show {_STATED[metric.value('attribute')]} that their caption"
    text += " or class states" + (f", for {captions} captions" if captions else "")
    return with_chance_level(text, metric)


ACCURACY = ship_metric(
    MetricKind(
        name="accuracy {attribute}{captions}{shuffled}",
        group="samples",
        unit="share",
        better=higher_unless_shuffled,
        leads=lambda metric: not metric.value("captions") and not metric.value("shuffled"),
        part="scene",
        parameters={
            "attribute": Choice(examples=tuple(_STATED)),
            "captions": Suffix(
                examples=("", "short", "medium", "long"), listed_in="scene_captions"
            ),
            "shuffled": SHUFFLED,
        },
        description=_words,
    )
)

TASKS = {
    "single-object": "the shape of the only object",
    "two-objects": "the shapes of two objects",
    "counting": "the shapes of all objects and no further object",
    "colours": "shape and colour of the only object",
    "position": "the shapes and the relation of two objects",
    "colour-attribution": "two objects, each with its own shape and colour",
}
"""Task of GenEval -> what an image must show."""


def _task_words(metric: Metric) -> str:
    task = metric.value("task")
    if task == "mean":
        text = "Mean of the accuracies in the six tasks of GenEval, read exactly from shapes"
    else:
        text = f"Share of samples that show {TASKS[task]}, of those whose caption states it"
    return with_chance_level(text, metric)


TASK_ACCURACY = ship_metric(
    MetricKind(
        name="task accuracy {task}{shuffled}",
        group="samples",
        unit="share",
        better=higher_unless_shuffled,
        leads=lambda metric: metric.value("task") == "mean" and not metric.value("shuffled"),
        part="scene",
        parameters={"task": Choice(examples=(*TASKS, "mean")), "shuffled": SHUFFLED},
        description=_task_words,
    )
)
