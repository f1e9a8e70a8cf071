# SPDX-License-Identifier: Apache-2.0
"""Evaluate the declared contrasts of a study's folder."""

from pippin.study.contrast_verdict import ContrastResult, contrast_results
from pippin.study.source import Source
from pippin.study.table import real_mean, series_of, split_by_protocol
from pippin.study.verdict import Series


def evaluate_contrasts(source: Source) -> list[ContrastResult]:
    """Results of all declared contrasts, in the declared order; primary ones have a verdict.

    For each metric only rows of one protocol count, as in the table of results.
    """
    declared = source.declaration
    metrics = {metric for contrast in declared.contrasts for metric in contrast.metrics}
    means: dict[tuple[str, str], Series] = {}
    real: dict[str, float] = {}
    for metric in sorted(metrics):
        rows = [row for row in source.results.rows if row.metric == metric]
        main, _ = split_by_protocol([row for row in rows if row.subject == "arm"])
        means |= {(arm, metric): series_of(source, arm, main) for arm in declared.arms}
        value = real_mean(rows, main[0], declared.paths) if main else None
        if value is not None:
            real[metric] = value
    return contrast_results(declared.contrasts, means, real)
