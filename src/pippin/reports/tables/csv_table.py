# SPDX-License-Identifier: Apache-2.0
"""Results of a study as CSV: one row for each arm and metric, then the declared contrasts
and agreements."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from pippin.evaluation.metric_registry import find_metric
from pippin.reports.report_source import Source
from pippin.reports.tables.contrast_table import contrast_label
from pippin.reports.tables.results_table import (
    Line,
    estimate_of,
    reference_rows,
    series_of,
    split_by_protocol,
    values_by_seed,
)
from pippin.studies.agreement_verdict import AgreementResult
from pippin.studies.contrast_verdict import ContrastResult
from pippin.studies.results import Row
from pippin.studies.statistics import Estimate

COLUMNS = (
    *("kind", "arm", "metric", "label", "unit", "better", "role"),
    *("mean", "low", "high", "interval", "n", "samples", "verdict"),
)
"""``kind``: arm, untrained, real, contrast or agreement (Spearman's correlation). ``n``: training
seeds of the mean; ``samples``: of each seed's number. ``interval``: what low and high vary over,
seeds or samples."""


def csv_table(
    source: Source,
    lines: Sequence[Line],
    contrasts: Sequence[ContrastResult],
    agreements: Sequence[AgreementResult] = (),
) -> str:
    """A table with full precision; a number that was not measured is empty.

    Args:
        source: a study.
        lines: the metrics to write, of :func:`pippin.reports.tables.results_table.result_lines`.
        contrasts: results of its declared contrasts.
        agreements: results of its declared agreements.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    rows: dict[str, list[Row]] = {}
    for row in source.results.rows:
        rows.setdefault(find_metric(row.metric).name, []).append(row)
    for line in lines:
        writer.writerows(_rows_of_metric(source, line, rows[line.metric.name]))
    units = {row.metric: row.unit for row in source.results.rows if row.subject == "arm"}
    writer.writerows(_contrast_row(result, units) for result in contrasts)
    writer.writerows(map(_agreement_row, agreements))
    return text.getvalue()


def _rows_of_metric(source: Source, line: Line, rows: list[Row]) -> Iterator[dict[str, object]]:
    """Rows of the arms and references, from rows of one protocol, as in the table of a page."""
    main, _ = split_by_protocol([row for row in rows if row.subject == "arm"])
    sample = (main or rows)[0]
    named = {
        "metric": line.metric.name,
        "label": line.metric.label,
        "unit": line.unit,
        "better": "nearest to real" if line.better.startswith("≈") else sample.better,
        "role": line.role,
    }
    verdicts = _verdicts(source, line)
    for arm, cell in zip(source.declaration.arms, line.arms, strict=True):
        series = series_of(source, arm, main)
        own = [row for row in main if row.arm == arm]
        numbers = _numbers(estimate_of(series.values, own), own) if series.values else {}
        verdict = verdicts.get(arm, "") if series.values else cell.text
        yield {"kind": "arm", "arm": arm, **named, **numbers, "verdict": verdict}
    for subject in ("untrained", "real"):
        by_arm = reference_rows(rows, subject, sample, source.declaration.paths)
        for arm, of_seeds in by_arm.items():
            own = list(of_seeds.values())
            numbers = _numbers(estimate_of(values_by_seed(of_seeds), own), own)
            yield {"kind": subject, "arm": arm, **named, **numbers}


def _verdicts(source: Source, line: Line) -> dict[str, str]:
    """Arm -> its status against the baseline; only declared contrasts decide, if there are any."""
    baseline = next(iter(source.declaration.arms))
    compared: dict[str, str] = {pair.second: pair.status for pair in line.comparisons}
    if source.declaration.decided_by_claims:
        compared = dict.fromkeys(compared, "exploratory")
    return {baseline: "baseline", **compared}


def _contrast_row(result: ContrastResult, units: Mapping[str, str]) -> dict[str, object]:
    contrast = result.contrast
    shares = contrast.scale == "share of real"
    named = dict.fromkeys(units.get(metric, "") for metric in contrast.metrics)
    return {
        "kind": "contrast",
        "arm": contrast.name,
        "metric": "; ".join(contrast.metrics),
        "label": contrast_label(contrast),
        "unit": "share of real images' value" if shares else "; ".join(filter(None, named)),
        "role": contrast.role,
        **(_numbers(result.estimate, ()) if result.estimate else {}),
        "verdict": result.verdict,
    }


def _agreement_row(result: AgreementResult) -> dict[str, object]:
    agreement = result.agreement
    return {
        "kind": "agreement",
        "arm": agreement.name,
        "metric": "; ".join(agreement.metrics),
        "label": agreement.name,
        "unit": "Spearman's correlation",
        "role": agreement.role,
        **(_numbers(result.rho, ()) if result.rho else {}),
        "verdict": result.verdict,
    }


def _numbers(estimate: Estimate, rows: Sequence[Row]) -> dict[str, object]:
    samples = sorted({row.n for row in rows})
    return {
        "mean": estimate.mean,
        "low": "" if estimate.low is None else estimate.low,
        "high": "" if estimate.high is None else estimate.high,
        "interval": estimate.over if estimate.low is not None else "none",
        "n": estimate.count,
        "samples": " ".join(map(str, samples)),
    }
