# SPDX-License-Identifier: Apache-2.0
"""Results of a study as a LaTeX table in the style of booktabs."""

import re
from collections.abc import Sequence

from pippin.reports.output_file import LATEX_HEAD
from pippin.reports.report_source import Source
from pippin.reports.tables.agreement_table import AGREEMENT_HEADS
from pippin.reports.tables.contrast_table import ClaimLine
from pippin.reports.tables.results_table import ABSENT, Cell, Line, nearest_note

_SPECIAL = {
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "\N{NO-BREAK SPACE}": "~",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "≈": r"$\approx$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
}
"""Character -> LaTeX; all others stay, as UTF-8."""


def escape_latex(text: str) -> str:
    """The text for LaTeX, on one line, with code in backticks as ``\\texttt``."""
    plain = re.sub(r"[ \t\r\n]+", " ", text.strip())  # a no-break space stays
    escaped = "".join(_SPECIAL.get(character, character) for character in plain)
    return re.sub(r"`([^`]+)`", r"\\texttt{\1}", escaped)


def latex_table(
    source: Source,
    lines: Sequence[Line],
    contrasts: Sequence[ClaimLine],
    agreements: Sequence[ClaimLine] = (),
) -> str:
    """One row for each metric and one column for each arm; before it, the declared claims.

    Args:
        source: a study.
        lines: the metrics to write, of :func:`pippin.reports.tables.results_table.result_lines`.
        contrasts: lines of its declared contrasts.
        agreements: lines of its declared agreements.
    """
    name = escape_latex(source.declaration.name)
    parts = [f"{LATEX_HEAD} It needs \\usepackage{{booktabs}}."]
    if contrasts:
        heads = ["Contrast", "Estimate", "Smallest effect", "$p$", "Verdict"]
        chosen = (0, 2, 3, -1)  # estimate, smallest effect, p, verdict
        rows = [[line.name, *(line.cells[index] for index in chosen)] for line in contrasts]
        parts.append(_tabular(name, "contrasts", _contrast_caption(source), heads, rows))
    if agreements:
        heads = ["Agreement", *map(escape_latex, map(str.capitalize, AGREEMENT_HEADS[1:]))]
        rows = [[line.name, *line.cells] for line in agreements]
        parts.append(_tabular(name, "agreements", _agreement_caption(source), heads, rows))
    arms = list(source.declaration.arms)
    references = [
        (title, [getattr(line, field) for line in lines])
        for title, field in (("Real images", "real"), ("Untrained", "untrained"))
    ]
    references = [pair for pair in references if any(cell is not ABSENT for cell in pair[1])]
    heads = [*map(escape_latex, ("Metric", *arms, *(title for title, _ in references)))]
    rows = [
        [
            f"{line.metric.label} {line.sign}".strip(),
            *map(_cell, line.arms),
            *(_cell(cells[index]) for _, cells in references),
        ]
        for index, line in enumerate(lines)
    ]
    parts.append(_tabular(name, "results", _caption(source, lines), heads, rows))
    return "\n\n".join(parts) + "\n"


def _tabular(
    name: str, kind: str, caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    """A table environment; heads are LaTeX already, rows are plain text."""
    label = re.sub(r"[^\w-]", "-", name, flags=re.ASCII)
    body = [f"    {' & '.join(map(escape_latex, row))} \\\\" for row in rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{caption}}}",
            f"  \\label{{tab:{label}-{kind}}}",
            f"  \\begin{{tabular}}{{{'l' * len(heads)}}}",
            r"    \toprule",
            f"    {' & '.join(heads)} \\\\",
            r"    \midrule",
            *body,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def _caption(source: Source, lines: Sequence[Line]) -> str:
    seeds, (first, *others) = source.declaration.seeds, list(source.declaration.arms)
    texts = [f"{source.declaration.title.rstrip('.')}."]
    if len(seeds) > 1:
        texts.append(f"Mean ± half of the 95 % interval (Student t) over {len(seeds)} seeds.")
    else:
        texts.append("One training seed; [low, high] is a 95 % interval over its samples.")
    if others:
        corrected = f", corrected for {len(others)} comparisons" if len(others) > 1 else ""
        texts.append(f"Δ is the mean paired difference to {first}{corrected}.")
    if any(line.metric.target for line in lines):
        texts.append(nearest_note(source.declaration))
    return escape_latex(" ".join(texts))


def _contrast_caption(source: Source) -> str:
    return escape_latex(
        f"Declared contrasts of {source.declaration.name}: weighted sums of arms' means ± half of "
        "the 95 % interval; p of primary contrasts is adjusted (Holm)."
    )


def _agreement_caption(source: Source) -> str:
    return escape_latex(
        f"Declared agreements of {source.declaration.name}: rank correlation [95 % bootstrap "
        "interval over training seeds]."
    )


def _cell(cell: Cell) -> str:
    remark = f" ({cell.remark})" if cell.remark else ""
    delta = f" ({cell.delta})" if cell.delta else ""
    return f"{cell.text}{remark}{delta}"
