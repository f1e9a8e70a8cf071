# SPDX-License-Identifier: Apache-2.0
"""Results of a study as a file for a paper or a README: LaTeX, CSV or Markdown."""

from pathlib import Path
from typing import Literal

from pippin.config import ConfigError
from pippin.reports.markdown import markdown
from pippin.reports.output_file import PAGE, SUFFIXES, check_output
from pippin.reports.report_data import open_source
from pippin.reports.report_source import Source
from pippin.reports.tables.agreement_table import agreement_lines, evaluate_agreements
from pippin.reports.tables.contrast_table import contrast_lines, evaluate_contrasts
from pippin.reports.tables.csv_table import csv_table
from pippin.reports.tables.latex import latex_table
from pippin.reports.tables.results_table import Line, result_lines
from pippin.system.files import remove_temporary_files, write_text

TABLES = tuple(suffix for suffix in SUFFIXES if suffix != PAGE)
"""Suffixes of tables."""
MetricChoice = Literal["declared", "all"]


def render_table(folder: Path, out: Path, metrics: MetricChoice = "declared") -> Path:
    """Write the results of a study as the file's suffix says, and return its path.

    Args:
        folder: the folder of a study.
        out: a file with one of the suffixes :data:`TABLES`.
        metrics: the declared metrics, or all that were measured.

    Raises:
        ConfigError: not the folder of a study, another suffix, or a file that is no such table.
    """
    check_output(out, TABLES)
    source = open_source(folder)
    if not source.is_study:
        raise ConfigError(
            f"{folder} is the folder of a run; a {out.suffix} table compares the arms of a study: "
            f"give the folder of a study, or an --out that ends in {PAGE}"
        )
    text = _text(source, out.suffix, metrics)
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_temporary_files(out.parent, out.name)  # left by a killed call
    write_text(out, text)
    return out


def _text(source: Source, suffix: str, metrics: MetricChoice) -> str:
    if suffix == ".md":
        return markdown(source, metrics)
    lines = chosen_lines(source, metrics)
    results, agreements = evaluate_contrasts(source), evaluate_agreements(source)
    if suffix == ".csv":
        return csv_table(source, lines, results, agreements)
    return latex_table(source, lines, contrast_lines(source, results), agreement_lines(agreements))


def chosen_lines(source: Source, metrics: MetricChoice) -> list[Line]:
    """Lines of the declared metrics, or of all."""
    return [line for line in result_lines(source) if metrics == "all" or line.role]
