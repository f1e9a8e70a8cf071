# SPDX-License-Identifier: Apache-2.0
"""Agreement with captions; computed by :mod:`pippin.evaluation.metrics.clip_score` and
:mod:`pippin.evaluation.metrics.alignment`."""

from pippin.evaluation.metric import Metric, MetricKind
from pippin.evaluation.metric_parameters import SHUFFLED, Number
from pippin.evaluation.metric_registry import ship_metric
from pippin.evaluation.metrics.declared.shuffled import higher_unless_shuffled


def _clip_words(metric: Metric) -> str:
    if metric.value("shuffled"):
        return "CLIP score with shuffled captions: the level of any caption."
    return (
        "100 times the cosine similarity of image and caption in CLIP; scores of different "
        "CLIP models cannot be compared."
    )


CLIP_SCORE = ship_metric(
    MetricKind(
        name="CLIP score{shuffled}",
        group="samples",
        unit="100 cos",
        better=higher_unless_shuffled,
        leads=lambda metric: not metric.value("shuffled"),
        needs=("clip",),
        parameters={"shuffled": SHUFFLED},
        description=_clip_words,
    )
)
CAPTION_RECALL = ship_metric(
    MetricKind(
        name="caption R@{at}{shuffled}",
        group="other",
        unit="share",
        better=higher_unless_shuffled,
        leads=True,
        part="alignment",
        parameters={"at": Number(examples=(1, 5, 10)), "shuffled": SHUFFLED},
        description=("Share of samples whose own caption is among the nearest k of all captions."),
    )
)
