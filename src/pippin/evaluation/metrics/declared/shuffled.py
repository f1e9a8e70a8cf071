# SPDX-License-Identifier: Apache-2.0
"""Metrics of captions whose floor, with captions shuffled among the images, is a metric too."""

from pippin.evaluation.metric import Better, Metric


def higher_unless_shuffled(metric: Metric) -> Better:
    """Direction of the metric; the floor has none."""
    return "neither" if metric.value("shuffled") else "higher"


def with_chance_level(text: str, metric: Metric) -> str:
    """Complete a description; that of the floor names the chance level."""
    return text + (
        ", with shuffled captions: the chance level." if metric.value("shuffled") else "."
    )
