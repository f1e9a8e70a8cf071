# SPDX-License-Identifier: Apache-2.0
"""``pippin report FOLDER [FOLDER]``: report on a run or a study, or on two side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pippin.cli.parsing.options import parse
from pippin.system.text import print_text


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write a report on a study, a run or samples from their folder, or one that shows two studies
    or two runs side by side. The page is a single self-contained file."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """One or two folders of `pippin study run`, `pippin demo` or `pippin train`, or one of
    `pippin sample`."""
    out: Path | None = None
    """Output file; default: report.html in the folder, or A-beside-B.html here. With the suffix
    .md, a study's verdict and table are written as Markdown."""


def main(argv: list[str]) -> int:
    """Parse and render.

    Raises:
        ValueError: not one or two folders.
    """
    command = parse(ReportCommand, "pippin report", argv)
    if len(command.folders) not in (1, 2):
        raise ValueError(
            f"pippin report takes one folder, or two to show side by side; "
            f"got {len(command.folders)}"
        )

    from pippin.reports.comparison_page import render_comparison
    from pippin.reports.markdown import SUFFIX, render_markdown
    from pippin.reports.report import render_report
    from pippin.reports.samples_page import has_sample_manifest, render_samples

    first, *others = command.folders
    if command.out is not None and command.out.suffix == SUFFIX and not others:
        print_text(render_markdown(first, command.out))
    elif others:
        print_text(render_comparison(first, others[0], command.out))
    elif has_sample_manifest(first):
        print_text(render_samples(first, command.out))
    else:
        print_text(render_report(first, command.out))
    return 0
