# SPDX-License-Identifier: Apache-2.0
"""The table of claims on top of docs/results.md, from the kept results.

    python scripts/claims_table.py            renew it
    python scripts/claims_table.py --check    1 where it is not up to date

results/claims.json names, for each claim, the study that tests it and the declared contrast, or,
for studies from before contrasts, the arm that is compared with the first one by the declared
primary metric and what the claim predicts of it: better, worse or same. Verdicts are taken from
there and from nowhere else.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

from pippin.study.contrast_source import evaluate_contrasts
from pippin.study.contrast_table import estimate_text
from pippin.study.source import Source, open_source
from pippin.study.table import result_lines

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGE = ROOT / "docs" / "results.md"
START, END = "<!-- claims -->\n", "<!-- end of claims -->"
HEADS = ("claim", "experiment", "verdict", "estimate", "seeds", "command")


class Found(NamedTuple):
    """What a study says of a claim."""

    verdict: str
    estimate: str
    seeds: int


def main() -> int:
    """Renew the table, or check it."""
    text = PAGE.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        print(f"{PAGE} must hold {START.strip()} and {END} once", file=sys.stderr)
        return 1
    renewed = before + START + table() + END + after
    if sys.argv[1:] == ["--check"]:
        return int(renewed != text)
    if sys.argv[1:]:
        print(__doc__)
        return 2
    PAGE.write_text(renewed, encoding="utf-8")
    return 0


def table() -> str:
    """All claims in Markdown."""
    rows = [HEADS, ("---",) * len(HEADS)]
    for claim in json.loads((RESULTS / "claims.json").read_text(encoding="utf-8")):
        source = open_source(RESULTS / claim["study"])
        found = finding(source, claim)
        rows.append(
            (
                claim["claim"],
                f"[{claim['experiment']}](#{claim['section']})",
                f"**{found.verdict}**",
                found.estimate,
                str(found.seeds),
                f"`{source.declaration.reproduce[-1]}`",
            )
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def finding(source: Source, claim: dict[str, str]) -> Found:
    """The verdict on a claim.

    Raises:
        KeyError: the study has no such contrast or arm.
    """
    if "contrast" in claim:
        results = {one.contrast.name: one for one in evaluate_contrasts(source)}
        one = results[claim["contrast"]]
        unit = " of real" if one.contrast.scale == "share of real" else ""
        seeds = one.estimate.count if one.estimate else 0
        value, _, _ = estimate_text(one.estimate).partition(" (")
        return Found(one.verdict, value + unit, seeds)
    (primary,) = (line for line in result_lines(source) if line.role == "primary")
    arms = {one.second: one for one in primary.comparisons}
    compared = arms[claim["arm"]]
    seeds = compared.difference.count if compared.difference else 0
    verdict = "supported" if compared.status == claim["predicted"] else "not supported"
    if compared.status == "undecided":
        verdict = "inconclusive"
    return Found(verdict, f"{primary.term.label} {compared.size or 'not measured'}", seeds)


if __name__ == "__main__":
    sys.exit(main())
