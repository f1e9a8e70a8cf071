# SPDX-License-Identifier: Apache-2.0
"""What makes a verdict weaker than it looks."""

from collections.abc import Sequence
from statistics import fmean

from pippin.study.glossary import control_name
from pippin.study.source import Source

MIN_RELATIVE_EFFECT = 0.1
"""Share of real pairs' effect below which a model is said to ignore a control."""


def cautions(source: Source, without_size: Sequence[str]) -> list[str]:
    """What makes a verdict weaker than it looks.

    Args:
        source: the study.
        without_size: what to say of claims without a smallest effect.
    """
    declared, outcomes = source.declaration, source.results
    found: list[str] = []
    total = len(declared.arms) * len(declared.seeds)
    latest = [outcomes.latest(arm, seed) for arm in declared.arms for seed in declared.seeds]
    finished = sum(one is not None and one.status != "failed" for one in latest)
    if finished < total:
        found.append(f"Only {finished} of {total} runs are done: this may change.")
    added = [seed for seed in declared.seeds if seed not in declared.first_seeds]
    if added:
        found.append(
            f"Seeds {', '.join(map(str, added))} were added after the study began; looking at "
            "results before adding seeds makes a false claim more likely than 5 %."
        )
    return [*found, *without_size, *unresponsive_arms(source)]


def unresponsive_arms(source: Source) -> list[str]:
    """Arms that hardly act on a control, whose low drift therefore says nothing."""
    effects: dict[str, dict[str, list[float]]] = {}
    for row in source.results.rows:
        kind, _, control = row.metric.partition(" ")
        if kind == "effect" and " " not in control and row.value is not None:
            who = row.arm if row.subject == "arm" else row.subject
            effects.setdefault(control, {}).setdefault(who, []).append(row.value)
    said = []
    for control, found in effects.items():
        real = fmean(found.get("real", [0.0]))
        means = {arm: fmean(found[arm]) for arm in source.declaration.arms if arm in found}
        unresponsive = [
            f"{arm} {mean:.2g}" for arm, mean in means.items() if mean < MIN_RELATIVE_EFFECT * real
        ]
        if unresponsive and real > 0:
            said.append(
                f"{control_name(control).capitalize()} is hardly acted on (effect, where real "
                f"pairs have {real:.2g}): {', '.join(unresponsive)}. Low drift says nothing "
                "there: a model that ignores a control has none."
            )
    return said
