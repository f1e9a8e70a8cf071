# SPDX-License-Identifier: Apache-2.0
"""Table of claims at the top of docs/results.md, from the kept results.

    python scripts/claims_table.py            update it
    python scripts/claims_table.py --check    exit code 1 if it is out of date

results/claims.json names, for each claim, the study that tests it and the declared contrast or
agreement of rankings. For studies without either it names the arm that is compared with the
baseline by the declared primary metric, and the prediction: better, worse or same. Verdicts come
from the kept results only.
"""

import json
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pippin.reports.report_data import open_source
from pippin.reports.report_source import Source
from pippin.reports.tables.agreement_table import correlation_text, evaluate_agreements
from pippin.reports.tables.contrast_table import estimate_text, evaluate_contrasts
from pippin.reports.tables.results_table import result_lines
from pippin.reports.tables.table_lines import Line
from pippin.studies.agreement_verdict import AgreementResult
from pippin.studies.contrast_verdict import ContrastResult

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGE = ROOT / "docs" / "results.md"
START, END = "<!-- claims -->\n", "<!-- end of claims -->"
HEADS = ("claim", "experiment", "verdict", "estimate", "seeds", "command")


class Finding(NamedTuple):
    """Verdict of a study on a claim."""

    verdict: str
    estimate: str
    seeds: int


def main() -> int:
    """Update the table, or check it."""
    text = PAGE.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        print(f"{PAGE} must hold {START.strip()} and {END} once", file=sys.stderr)
        return 1
    updated = before + START + table() + END + after
    if sys.argv[1:] == ["--check"]:
        return int(updated != text)
    if sys.argv[1:]:
        print(__doc__)
        return 2
    PAGE.write_text(updated, encoding="utf-8")
    return 0


def table() -> str:
    """All claims as a Markdown table."""
    rows = [HEADS, ("---",) * len(HEADS)]
    for claim in json.loads((RESULTS / "claims.json").read_text(encoding="utf-8")):
        source, result = source_of(claim["study"]), finding(claim)
        rows.append(
            (
                claim["claim"],
                f"[{claim['experiment']}](#{claim['section']})",
                f"**{result.verdict}**",
                result.estimate,
                str(result.seeds),
                f"`{source.declaration.reproduce[-1]}`",
            )
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


@cache
def source_of(study: str) -> Source:
    """Kept results of a study, read once for all claims about it."""
    return open_source(RESULTS / study)


@cache
def contrasts_of(study: str) -> dict[str, ContrastResult]:
    """Results of the declared contrasts by name."""
    return {result.contrast.name: result for result in evaluate_contrasts(source_of(study))}


@cache
def agreements_of(study: str) -> dict[str, AgreementResult]:
    """Results of the declared agreements of rankings by name."""
    return {result.agreement.name: result for result in evaluate_agreements(source_of(study))}


@cache
def primary_line(study: str) -> Line:
    """Results of the primary metric."""
    (primary,) = (line for line in result_lines(source_of(study)) if line.role == "primary")
    return primary


def finding(claim: dict[str, str]) -> Finding:
    """Evaluate a claim.

    Raises:
        KeyError: the study has no such contrast, agreement or arm.
    """
    if "contrast" in claim:
        result = contrasts_of(claim["study"])[claim["contrast"]]
        unit = " of real" if result.contrast.scale == "share of real" else ""
        seeds = result.estimate.count if result.estimate else 0
        value, _, _ = estimate_text(result.estimate).partition(" (")
        return Finding(result.verdict, value + unit, seeds)
    if "agreement" in claim:
        agreed = agreements_of(claim["study"])[claim["agreement"]]
        value, _, _ = correlation_text(agreed.rho).partition(" (")
        return Finding(agreed.verdict, f"Spearman {value}", agreed.rho.count if agreed.rho else 0)
    primary = primary_line(claim["study"])
    comparisons = {comparison.second: comparison for comparison in primary.comparisons}
    comparison = comparisons[claim["arm"]]
    seeds = comparison.difference.count if comparison.difference else 0
    verdict = "supported" if comparison.status == claim["predicted"] else "not supported"
    if comparison.status == "undecided":
        verdict = "inconclusive"
    return Finding(verdict, f"{primary.metric.label} {comparison.size or 'not measured'}", seeds)


if __name__ == "__main__":
    sys.exit(main())
