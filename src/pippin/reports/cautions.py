# SPDX-License-Identifier: Apache-2.0
"""Reasons why a verdict is weaker than it looks."""

from collections.abc import Sequence
from statistics import fmean

from pippin.evaluation.control_words import control_label
from pippin.evaluation.metric_registry import find_metric
from pippin.evaluation.metrics.declared.drift import EFFECT
from pippin.reports.report_source import Source

MIN_RELATIVE_EFFECT = 0.1
"""Share of the real pairs' effect below which a model counts as unresponsive to a control."""


def cautions(source: Source, without_size: Sequence[str]) -> list[str]:
    """Reasons why a verdict is weaker than it looks, one sentence each.

    Args:
        source: the study.
        without_size: sentences about claims without a smallest effect.
    """
    declared, outcomes = source.declaration, source.results
    messages: list[str] = []
    total = len(declared.arms) * len(declared.seeds)
    latest = [outcomes.latest(arm, seed) for arm in declared.arms for seed in declared.seeds]
    finished = sum(outcome is not None and outcome.status != "failed" for outcome in latest)
    if finished < total:
        messages.append(f"Only {finished} of {total} runs are done: the verdict may change.")
    added = [seed for seed in declared.seeds if seed not in declared.first_seeds]
    if added:
        messages.append(
            f"Seeds {', '.join(map(str, added))} were added after the study began; looking at "
            "results before adding seeds makes a false claim more likely than 5 %."
        )
    return [*messages, *without_size, *unresponsive_arms(source)]


def unresponsive_arms(source: Source) -> list[str]:
    """One sentence for each control with unresponsive arms, whose low drift means nothing."""
    effects: dict[str, dict[str, list[float]]] = {}
    for row in source.results.rows:
        metric = find_metric(row.metric)
        if metric.kind is EFFECT and metric.position is None and row.value is not None:
            subject = row.arm if row.subject == "arm" else row.subject
            effects.setdefault(metric.control, {}).setdefault(subject, []).append(row.value)
    messages = []
    for control, values_by_subject in effects.items():
        real = fmean(values_by_subject.get("real", [0.0]))
        means = {
            arm: fmean(values_by_subject[arm])
            for arm in source.declaration.arms
            if arm in values_by_subject
        }
        unresponsive = [
            f"{arm} {mean:.2g}" for arm, mean in means.items() if mean < MIN_RELATIVE_EFFECT * real
        ]
        if unresponsive and real > 0:
            messages.append(
                f"{control_label(control).capitalize()} has hardly any effect (real pairs: "
                f"{real:.2g}) in: {', '.join(unresponsive)}. Their low drift means nothing: a "
                "model that ignores a control has no drift."
            )
    return messages
