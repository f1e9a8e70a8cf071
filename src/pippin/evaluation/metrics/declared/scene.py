# SPDX-License-Identifier: Apache-2.0
"""Accuracy of shapes; computed by :mod:`pippin.evaluation.metrics.scene.score`."""

from pippin.evaluation.metric import Metric, MetricKind
from pippin.evaluation.metric_parameters import SHUFFLED, Choice, Suffix
from pippin.evaluation.metric_registry import ship_metric

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
    return text + (
        ", with shuffled captions: the chance level." if metric.value("shuffled") else "."
    )


ACCURACY = ship_metric(
    MetricKind(
        name="accuracy {attribute}{captions}{shuffled}",
        group="samples",
        unit="share",
        better=lambda metric: "neither" if metric.value("shuffled") else "higher",
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
