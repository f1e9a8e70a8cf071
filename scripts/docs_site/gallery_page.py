# SPDX-License-Identifier: Apache-2.0
"""The gallery of results: one entry for each kept study, from results/ and docs/results.md."""

import json
import re
from html import escape
from pathlib import Path

from markdown.extensions.toc import slugify

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
DETAILS = ROOT / "docs" / "results.md"
HEAD = """---
hide: [toc]
---

# Results

One card a study. Verdicts and intervals come from the kept results and were decided by what each
study declared before its first run: *supported*, *not supported*, or *inconclusive* where the
interval admits both. Intervals are 95 % over training seeds. All studies here ran at the scale
`cpu`: models of 2.4 million parameters on embedded images. What does not show here may show at
scale. [In detail](../results.md) has every table and how to repeat each study.

<div class="gallery" markdown="1">
"""


def gallery_page() -> str:
    """All kept studies, those that test a claim of the paper first."""
    claims = tested_claims()
    names = [claim["study"] for claim in claims]
    names += sorted(path.parent.name for path in RESULTS.glob("*/study.json"))
    cards = [card(name, claims) for name in dict.fromkeys(names)]
    return HEAD + "\n".join(cards) + "\n</div>\n"


def tested_claims() -> list[dict[str, str]]:
    """Claims with the verdict and estimate that the table of docs/results.md has.

    A test holds that table to the kept results, so nothing is computed again here.
    """
    claims = json.loads((RESULTS / "claims.json").read_text(encoding="utf-8"))
    table = _between(DETAILS.read_text(encoding="utf-8"), "claims").strip().splitlines()[2:]
    for claim, row in zip(claims, table, strict=True):
        text, _, verdict, estimate, seeds, _ = (cell.strip() for cell in row.split(" | "))
        assert text == f"| {claim['claim']}", text
        shown = f"{estimate}, {seeds} seeds" if seeds != "0" else estimate
        claim |= {"verdict": verdict.strip("*"), "estimate": shown}
    return claims


def card(name: str, claims: list[dict[str, str]]) -> str:
    """Title, figure, verdicts and links of one study."""
    declared = json.loads((RESULTS / name / "study.json").read_text(encoding="utf-8"))
    verdicts = [
        f"- {_chip(claim['verdict'])} {claim['claim']} {claim['estimate']}."
        for claim in claims
        if claim["study"] == name
    ]
    figures = sorted((RESULTS / name).glob("*.svg"))[:1]
    lines = [
        '<div class="study" markdown="1">',
        f"\n### {declared['title']}\n",
        *(f"![{_alt(figure)}](../../results/{name}/{figure.name})" for figure in figures),
        f"\n{declared['question']}\n",
        *(verdicts or [_headline(name)]),
        f"\n{_links(name)}\n",
        "</div>",
    ]
    return "\n".join(lines)


def _headline(name: str) -> str:
    """The verdict of a study that stands in no table of claims, as docs/results.md has it."""
    first = _between(DETAILS.read_text(encoding="utf-8"), name).strip().partition("\n")[0]
    text = first.replace("**", "")
    words = ("not supported", "undecided", "no verdict", "supported")
    verdict = next((word for word in words if word in text.lower()), "")
    if verdict in ("undecided", "no verdict"):
        verdict = "inconclusive"
    return f"- {_chip(verdict)} {text}" if verdict else f"- {text}"


def _between(text: str, name: str) -> str:
    """Text between the two marks of a name; empty where they are missing."""
    return text.partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0]


def _chip(verdict: str) -> str:
    return f'<span class="verdict {verdict.replace(" ", "-")}">{escape(verdict)}</span>'


def _links(name: str) -> str:
    links = [f"[Report](../../results/{name}/report.html)"]
    if anchor := section_of(name):
        links.insert(0, f"[Section](../results.md#{anchor})")
    return " · ".join(links)


def section_of(name: str) -> str:
    """The anchor of the section of docs/results.md that holds a study's table; empty if none."""
    before, mark, _ = DETAILS.read_text(encoding="utf-8").partition(f"<!-- {name} -->")
    headings = re.findall(r"^#{2,} (.+)$", before, re.M)
    return slugify(headings[-1], "-") if mark and headings else ""


def _alt(figure: Path) -> str:
    return figure.stem.replace("-", " ").capitalize()
