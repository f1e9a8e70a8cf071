# SPDX-License-Identifier: Apache-2.0
"""Keep what a study found without its checkpoints and pictures.

    python scripts/keep_results.py studies/control-cpu results/control-cpu

Copies the declaration, the results and the page. With study.json and results.jsonl put back into
an empty folder, `pippin study run` goes on with what is missing, and runs nothing twice.
"""

import shutil
import sys
from pathlib import Path

from pippin.study.report import render_report
from pippin.study.results import append, read

ROOM = 1_500_000
"""Characters of the page's pictures: those of the first seed."""


def main() -> int:
    """Copy one study; existing files are replaced."""
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    study, kept = map(Path, sys.argv[1:])
    results = read(study / "results.jsonl")
    if results.problems:
        print("\n".join(results.problems), file=sys.stderr)
        return 1
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(study / "study.json", kept / "study.json")
    (kept / "results.jsonl").unlink(missing_ok=True)
    entries = [*results.rows, *results.outcomes]
    for run in dict.fromkeys((one.arm, one.seed) for one in entries):
        append(kept / "results.jsonl", [one for one in entries if (one.arm, one.seed) == run])
    print(render_report(study, kept / "report.html", ROOM))
    return 0


if __name__ == "__main__":
    sys.exit(main())
