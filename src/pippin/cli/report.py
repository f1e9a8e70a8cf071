# SPDX-License-Identifier: Apache-2.0
"""``pippin report FOLDER [FOLDER]``: report on a run or a study, or on two side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pippin.cli.parsing.options import parse
from pippin.system.text import print_text

PAGE = ".html"


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write a report on a study, a run or samples from their folder, or one that shows two studies
    or two runs side by side. The page is a single self-contained file."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """One or two folders of `pippin study run`, `pippin demo` or `pippin train`, or one of
    `pippin sample`."""
    out: Path | None = None
    """Output file; default: report.html in the folder, or A-beside-B.html here. A study is written
    as the suffix says: .html, .tex (LaTeX, booktabs), .csv or .md; all else as .html. A file with
    other content is not replaced."""
    metrics: Literal["declared", "all"] | None = None
    """Metrics of a .tex, .csv or .md table: those that the study declares (the default), or all. A
    page shows all."""


def main(argv: list[str]) -> int:
    """Parse and render.

    Raises:
        ValueError: not one or two folders, or an --out that cannot be written.
    """
    command = parse(ReportCommand, "pippin report", argv)
    if len(command.folders) not in (1, 2):
        raise ValueError(
            f"pippin report takes one folder, or two to show side by side; "
            f"got {len(command.folders)}"
        )

    from pippin.reports.comparison_page import render_comparison
    from pippin.reports.report import render_report
    from pippin.reports.samples_page import has_sample_manifest, render_samples
    from pippin.reports.table_file import render_table

    first, *others = command.folders
    samples = not others and has_sample_manifest(first)
    kind = "two folders" if others else "samples" if samples else "a study or a run"
    suffix = _checked_suffix(command, kind)
    if suffix not in (None, PAGE):
        assert command.out is not None
        print_text(render_table(first, command.out, command.metrics or "declared"))
    elif others:
        print_text(render_comparison(first, others[0], command.out))
    elif samples:
        print_text(render_samples(first, command.out))
    else:
        print_text(render_report(first, command.out))
    return 0


def _checked_suffix(command: ReportCommand, kind: str) -> str | None:
    """Suffix of the output file, which may be written; None = the default, a page.

    Raises:
        ValueError: a suffix that the folder cannot be written as, a file with other content, or
            --metrics for a page.
    """
    from pippin.reports.output_file import SUFFIXES, check_output

    suffix = None if command.out is None else command.out.suffix
    if command.out is not None:
        one = kind == "a study or a run"
        check_output(command.out, SUFFIXES if one else (PAGE,), kind)
    if command.metrics and suffix in (None, PAGE):
        raise ValueError(
            f"--metrics {command.metrics} has no effect on a page, which shows all metrics; give "
            "--out with the suffix .tex, .csv or .md"
        )
    return suffix
