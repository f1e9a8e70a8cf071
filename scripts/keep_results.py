# SPDX-License-Identifier: Apache-2.0
"""Keep the results of a study without checkpoints and images, and update docs/results.md.

    python scripts/keep_results.py studies/control-cpu
    python scripts/keep_results.py --tables    update the tables of all kept studies alone

Copies declaration and results to results/NAME, writes the report, the figures of drift against
effect and the control profiles there, and updates the study's table in docs/results.md. With
study.json and results.jsonl copied into an empty folder, `pippin study run` runs only what is
missing.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

from pippin.reports.figures.control_figures import control_profiles, tradeoffs
from pippin.reports.figures.curves import Figure, colour
from pippin.reports.markdown import markdown
from pippin.reports.report import render_report
from pippin.reports.report_data import open_source
from pippin.reports.report_source import Source
from pippin.studies.results import append

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
MAX_IMAGE_CHARACTERS = 1_500_000
"""Maximum characters of the report's images, which are those of the first seed."""
COLOURS = re.compile(r"--arm-\d: #\w+;")


def main() -> int:
    """Keep one study, replacing its earlier kept results."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    if sys.argv[1] == "--tables":
        for kept in sorted((ROOT / "results").glob("*/study.json")):
            _renew(kept.parent.name, markdown(open_source(kept.parent)))
        return 0
    source = open_source(Path(sys.argv[1]))
    if source.problems:
        print("\n".join(source.problems), file=sys.stderr)
        return 1
    kept = ROOT / "results" / source.declaration.name
    kept.mkdir(parents=True, exist_ok=True)
    _copy(source, kept)
    for name, figure in _figures(source):
        (kept / f"{name}.svg").write_text(_standalone(figure), encoding="utf-8")
    print(render_report(source.folder, kept / "report.html", MAX_IMAGE_CHARACTERS, kept))
    _renew(source.declaration.name, markdown(open_source(kept)))
    return 0


def _figures(source: Source) -> Iterator[tuple[str, Figure]]:
    """File names and figures: drift against effect, and control profiles."""
    drawn = tradeoffs(source)
    for figure in drawn:
        only = len(drawn) == 1
        yield "drift-against-effect" if only else _file_name(figure), figure
    for figure in control_profiles(source):
        yield _file_name(figure), figure


def _file_name(figure: Figure) -> str:
    return re.sub(r"[^a-z0-9]+", "-", figure.title.lower()).strip("-")


def _copy(source: Source, kept: Path) -> None:
    """Copy declaration and results, converted to the format of this version."""
    shutil.copyfile(source.folder / "study.json", kept / "study.json")
    (kept / "results.jsonl").unlink(missing_ok=True)
    entries = [*source.results.rows, *source.results.outcomes]
    for run in dict.fromkeys((entry.arm, entry.seed) for entry in entries):
        rows = [entry for entry in entries if (entry.arm, entry.seed) == run]
        append(kept / "results.jsonl", rows)


def _renew(name: str, table: str) -> None:
    """Replace the text between the two marks of a study."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    text = PAGE.read_text(encoding="utf-8")
    if text.count(start) != 1 or text.count(end) != 1:
        raise SystemExit(
            f"{PAGE} must hold {start.strip()} and {end} exactly once, to insert the table"
        )
    before, _, rest = text.partition(start)
    PAGE.write_text(before + start + table + end + rest.partition(end)[2], encoding="utf-8")


def _standalone(figure: Figure) -> str:
    """Standalone SVG drawing of a figure with its own colours, background and legend."""
    css = (ROOT / "src/pippin/reports/templates/report.css").read_text(encoding="utf-8")
    colours = " ".join({one.split(":")[0]: one for one in reversed(COLOURS.findall(css))}.values())
    width, height, step = 345.6, 216, 14
    points = f'width="{width}pt" height="{height}pt"'
    drawing = figure.svg.replace(points, points.replace("pt", ""), 1)
    legend = [
        f'<rect x="42" y="{height + step * row + 2}" width="12" height="4" '
        f'fill="{colour(key.position)}"/>'
        f'<text x="60" y="{height + step * row + 8}" font-size="10" font-family="sans-serif" '
        f'fill="currentColor">{escape(key.arm)}</text>'
        for row, key in enumerate(figure.legend)
    ]
    if figure.against == "effect":
        legend.append(
            f'<text x="43" y="{height + step * len(legend) + 9}" font-size="15" '
            'font-family="sans-serif" fill="currentColor">+</text>'
            f'<text x="60" y="{height + step * len(legend) + 8}" font-size="10" '
            'font-family="sans-serif" fill="currentColor">real pairs</text>'
        )
    full_height = height + step * len(legend) + 6
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {full_height}" width="560" '
        f'role="img"><title>{escape(figure.alt)}</title>'
        f"<style>svg {{ color: #1c1e21; {colours} }}</style>"
        f'<rect width="{width}" height="{full_height}" fill="#ffffff"/>'
    )
    return f"{head}{drawing}{''.join(legend)}</svg>\n"


if __name__ == "__main__":
    sys.exit(main())
