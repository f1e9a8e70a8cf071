# SPDX-License-Identifier: Apache-2.0
"""Undeclared contrasts of the kept studies: factorial main effects and other metrics.

    python scripts/exploratory_contrasts.py

They use all arms of a factorial design, while the declared comparisons are pairwise, and include
the Frechet distance. Intervals are 95 %, Student's t over training seeds, uncorrected: hints for
future declarations, not verdicts.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pippin.reports.report_data import open_source
from pippin.reports.tables.contrast_table import estimate_text, evaluate_contrasts
from pippin.studies.contrasts import Contrast, ContrastTerm

RESULTS = Path(__file__).parents[1] / "results"
FD, KID, LOSS = "FD-efflite0", "KID-efflite0", "held-out loss"
Weights = dict[str, float]
"""Arm -> weight."""


def main() -> None:
    """Print one line per contrast."""
    for study, name, metric, weights in _contrasts():
        source = open_source(RESULTS / study)
        terms = (ContrastTerm(arm=a, metric=metric, weight=w) for a, w in weights.items())
        contrast = Contrast(name=name, claim=name, terms=tuple(terms), role="exploratory")
        declared = replace(source.declaration, contrasts=(contrast,))
        (result,) = evaluate_contrasts(replace(source, declaration=declared))
        print(f"{study:24} {name:42} {metric:26} {estimate_text(result.estimate)}")


def _contrasts() -> Iterator[tuple[str, str, str, Weights]]:
    """Study, name, metric and weights of each contrast."""
    guided = {
        "lambda 2": "lambda-2-beta-1",
        "lambda 2, control kept": "lambda-2-keeps-control",
        "beta 2": "lambda-1-beta-2",
        "lambda 2 inside an interval": "lambda-2-interval",
    }
    for name, arm in guided.items():
        yield "guidance-cpu", f"{name}, less no guidance", FD, {"lambda-1-beta-1": -1, arm: 1}
    noisy = ("noisy-0.02", "noisy-0.1", "noisy-0.5")
    replicated: Weights = {"native": -1, **dict.fromkeys(("replicate", *noisy), 1 / 4)}
    noise: Weights = {"replicate": -1, **dict.fromkeys(noisy, 1 / 3)}
    for metric in (FD, KID, LOSS, "caption R@10"):
        yield "padding-cpu", "replicate rules, less native", metric, replicated
        yield "padding-cpu", "noisy replicate, less plain", metric, noise
    arms = [
        f"{positions}-{kind}"
        for positions in ("resampled", "extrapolated")
        for kind in ("rescaled", "kept")
    ]
    for metric in (FD, KID, LOSS):
        by_positions = dict(zip(arms, (0.5, 0.5, -0.5, -0.5), strict=True))
        by_noise = dict(zip(arms, (0.5, -0.5, 0.5, -0.5), strict=True))
        yield "resolution-cpu", "resampled less extrapolated positions", metric, by_positions
        yield "resolution-cpu", "rescaled noise less kept", metric, by_noise
    corners = ("entangled", "gate-alone", "attention-alone", "disentangled")
    for study in ("control-cpu", "control-independent-cpu"):
        for metric in (FD, KID, "effect original_size", "excess drift original_size"):
            by_gate = dict(zip(corners, (-0.5, 0.5, -0.5, 0.5), strict=True))
            by_path = dict(zip(corners, (-0.5, -0.5, 0.5, 0.5), strict=True))
            yield study, "gate", metric, by_gate
            yield study, "class by attention", metric, by_path


if __name__ == "__main__":
    main()
