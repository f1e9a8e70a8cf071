# SPDX-License-Identifier: Apache-2.0
"""``pippin report FOLDER``: write report.html for a run or a study."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pippin.cli.options import parse


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write report.html into the folder of a study or of a run: one file that needs no other."""

    folder: Annotated[Path, tyro.conf.Positional]
    """What `pippin study run` or `pippin train` wrote."""


def main(argv: list[str]) -> int:
    """Parse and render."""
    command = parse(ReportCommand, "pippin report", argv)

    from pippin.study.report import render_report

    print(render_report(command.folder))
    return 0
