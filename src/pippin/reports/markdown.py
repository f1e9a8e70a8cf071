# SPDX-License-Identifier: Apache-2.0
"""The verdict and declared metrics of a study as Markdown, for a README, an issue or a draft."""

from collections import Counter
from typing import Literal

from pippin.reports.contrast_headline import study_headline
from pippin.reports.report_source import Source
from pippin.reports.tables.agreement_table import (
    AGREEMENT_HEADS,
    AGREEMENT_READING,
    RankTable,
    agreement_lines,
    evaluate_agreements,
    rank_table,
)
from pippin.reports.tables.contrast_table import (
    HEADS,
    READING,
    ClaimLine,
    contrast_lines,
    evaluate_contrasts,
)
from pippin.reports.tables.paper_numbers import (
    CAUTION,
    HEADING,
    PublishedFigure,
    published_figures,
)
from pippin.reports.tables.results_table import (
    ABSENT,
    Line,
    nearest_note,
    result_lines,
)
from pippin.studies.results import Outcome


def markdown(source: Source, metrics: Literal["declared", "all"] = "declared") -> str:
    """Verdict, contrasts or agreements, one row for each arm with declared metrics, and the runs.

    Differences are to the baseline (the first arm), over common seeds, as on the HTML page.

    Args:
        source: a study.
        metrics: with "all", a table of all other metrics follows, with one row for each.
    """
    lines = result_lines(source)
    declared = [line for line in lines if line.role]
    headline = study_headline(source, lines)
    contrasts = contrast_lines(source, evaluate_contrasts(source))
    agreements = evaluate_agreements(source)
    claims = contrasts or agreement_lines(agreements)
    parts = [f"**{headline.mark}.** {headline.sentence}"]
    parts += _claims(claims, AGREEMENT_HEADS if agreements else HEADS)
    parts += [_ranks(rank_table(result)) for result in agreements]
    parts += [EXPLORATORY] if claims else []
    parts.append(_table(source, declared))
    primary = [pair for line in declared[:1] for pair in line.comparisons]
    basis = [_common_basis(declared)] if claims else [pair.basis for pair in primary]
    reasons = [] if claims else [pair.reason for pair in primary]
    notes = [f"Δ: {text}." for text in dict.fromkeys(filter(None, basis))]
    if any(line.metric.target for line in declared):
        notes.append(nearest_note(source.declaration))
    if claims:
        notes += [
            *(AGREEMENT_READING if agreements else READING),
            *(f"{claim.name}: {claim.formula}. {claim.reason}".strip() for claim in claims),
        ]
    if source.declaration.prediction:
        notes.append(f"Predicted before the run: {source.declaration.prediction}")
    notes += [*dict.fromkeys(filter(None, reasons)), *headline.cautions, _runs(source)]
    parts.append("\n".join(f"- {_plain(note)}" for note in notes))
    if figures := published_figures(source.declaration):
        parts += [f"{HEADING}. {CAUTION}", "\n".join(map(_published, figures))]
    others = [line for line in lines if not line.role]
    if metrics == "all" and others:
        parts += ["All other metrics:", _table_by_metric(source, others)]
    return "\n\n".join(parts) + "\n"


EXPLORATORY = "Exploratory: means of the arms; Δ to the first arm is not a verdict."
"""Caption of the table of arms after a table of claims."""


def _common_basis(lines: list[Line]) -> str:
    """Level and seeds of most differences to the first arm; empty without any. Cells with fewer
    seeds say so themselves."""
    bases = Counter(pair.basis for line in lines for pair in line.comparisons if pair.basis)
    return next((basis for basis, _ in bases.most_common(1)), "")


def _claims(lines: list[ClaimLine], heads: tuple[str, ...]) -> list[str]:
    """The table of contrasts or agreements; empty without any."""
    if not lines:
        return []
    rows = [list(heads), ["---"] * len(heads)]
    rows += [[f"{claim.name}: {claim.claim}", *claim.cells] for claim in lines]
    return ["\n".join(f"| {' | '.join(map(_plain, row))} |" for row in rows)]


def _ranks(table: RankTable) -> str:
    """The ranks of an agreement under its name."""
    rows = [table.heads, ("---",) * len(table.heads), *table.rows]
    lines = "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in rows)
    return f"{_plain(table.title)}:\n\n{lines}"


def _published(figure: PublishedFigure) -> str:
    """A list item: a table would invite comparison."""
    where = f"{figure.dataset}, {figure.resolution} px"
    value = f"{figure.metric} {figure.value}"
    return f"- {figure.model} on {where}: {value} ({figure.protocol}; {figure.source})"


def _table(source: Source, lines: list[Line]) -> str:
    heads = ["arm", *(f"{line.metric.label} {line.sign}".rstrip() for line in lines)]
    rows = [heads, ["---"] * len(heads)]
    for index, arm in enumerate(source.declaration.arms):
        rows.append([arm, *(line.arms[index].full_text for line in lines)])
    for name, cells in (
        ("real images", [line.real for line in lines]),
        ("untrained", [line.untrained for line in lines]),
    ):
        if any(cell is not ABSENT for cell in cells):
            rows.append([f"*{name}*", *(cell.full_text for cell in cells)])
    return "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in rows)


def _table_by_metric(source: Source, lines: list[Line]) -> str:
    """One row for each metric, because there may be a hundred."""
    heads = ["metric", *source.declaration.arms, "*real images*", "*untrained*"]
    rows = [heads, ["---"] * len(heads)]
    for line in lines:
        cells = (*line.arms, line.real, line.untrained)
        rows.append(
            [f"{line.metric.label} {line.sign}".rstrip(), *(cell.full_text for cell in cells)]
        )
    return "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in rows)


def _plain(text: str) -> str:
    """The text on one line, with bars escaped for a table cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _runs(source: Source) -> str:
    """The number of runs, their total wall time, and the command."""
    outcomes: dict[tuple[str, int], Outcome] = {}
    for outcome in source.results.outcomes:
        outcomes[outcome.arm, outcome.seed] = outcome
    minutes = round(sum(outcome.wall_seconds for outcome in outcomes.values()) / 60)
    hours, rest = divmod(minutes, 60)
    time = f"{hours} h {rest} min" if hours else f"{rest} min"
    total = len(source.declaration.arms) * len(source.declaration.seeds)
    commands = "".join(f"; `{line}`" for line in source.declaration.reproduce[-1:])
    unfinished = [
        f"{count} {status}"
        for status in ("failed", "diverged")
        if (count := sum(outcome.status == status for outcome in outcomes.values()))
    ]
    done = sum(outcome.status != "failed" for outcome in outcomes.values())
    unfinished_text = f" ({', '.join(unfinished)})" if unfinished else ""
    return f"{done} of {total} runs{unfinished_text}, {time} of wall time together{commands}"
