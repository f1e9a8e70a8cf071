# SPDX-License-Identifier: Apache-2.0
"""Write notebooks of ``examples/`` from their sources in jupytext's percent form.

python scripts/notebook.py            # writes examples/first_comparison.ipynb
python scripts/notebook.py --check    # exit code 1 where it differs from its source

A notebook keeps its outputs while its cells are those of the source, so that it can be read
without a run. To renew them, execute a copy in an empty folder, and copy it back:

jupyter nbconvert --to notebook --execute --inplace first_comparison.ipynb
python scripts/notebook.py            # drops metadata, warnings and progress of the run

Cells have their number as id, so the same source and outputs give the same file.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("first_comparison",)
_MARKER = re.compile(r"^# %%(?: \[(?P<kind>markdown)\])?(?: tags=(?P<tags>\[.*\]))?$")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
    "jupytext": {"formats": "ipynb,py:percent"},
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a source."""

    kind: str
    """``code`` or ``markdown``."""
    text: str
    tags: tuple[str, ...] = ()


def read_cells(source: str) -> list[Cell]:
    """Cells of a source; lines before the first marker, such as the licence, are in none.

    Raises:
        ValueError: a marker that is not understood, or a line of Markdown without ``#``.
    """
    cells: list[Cell] = []
    lines: list[str] = []
    marker: re.Match[str] | None = None
    for line in [*source.splitlines(), "# %%"]:
        if not line.startswith("# %%"):
            lines.append(line)
            continue
        if marker is not None:
            cells.append(_cell(marker, lines))
        marker, lines = _MARKER.match(line), []
        if marker is None:
            raise ValueError(f'{line!r} is no marker; write # %%, # %% [markdown] or tags=["..."]')
    return cells


def _cell(marker: re.Match[str], lines: list[str]) -> Cell:
    tags = tuple(json.loads(marker["tags"] or "[]"))
    if marker["kind"] is None:
        return Cell(kind="code", text="\n".join(lines).strip("\n"), tags=tags)
    texts = [line for line in lines if line]
    if wrong := [line for line in texts if not re.match(r"#( |$)", line)]:
        raise ValueError(f"a line of a Markdown cell must begin with '# '; got {wrong[0]!r}")
    return Cell(kind="markdown", text="\n".join(line[2:] for line in texts), tags=tags)


def notebook(cells: list[Cell], earlier: dict[str, Any] | None = None) -> dict[str, Any]:
    """Notebook of format 4.5.

    Args:
        cells: of the source.
        earlier: an earlier notebook, whose outputs are kept if its cells are the same.
    """
    entries: list[dict[str, Any]] = []
    for number, cell in enumerate(cells):
        entry: dict[str, Any] = {
            "cell_type": cell.kind,
            "id": f"cell-{number:02d}",
            "metadata": {"tags": list(cell.tags)} if cell.tags else {},
            "source": cell.text.splitlines(keepends=True),
        }
        if cell.kind == "code":
            entry |= {"execution_count": None, "outputs": []}
        entries.append(entry)
    before = earlier["cells"] if earlier else []
    if [_content(cell) for cell in before] == [_content(cell) for cell in entries]:
        for entry, cell in zip(entries, before, strict=True):
            if entry["cell_type"] == "code":
                outputs = [one for one in cell["outputs"] if _is_result(one)]
                entry |= {"execution_count": cell["execution_count"], "outputs": outputs}
    return {"cells": entries, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def _is_result(output: dict[str, Any]) -> bool:
    """Whether an output is a result, not a warning or the progress that a run has displayed."""
    return output.get("name") != "stderr" and output["output_type"] != "display_data"


def _content(cell: dict[str, Any]) -> tuple[str, str]:
    """Kind and text of a cell of a notebook, whose text may be one string or lines."""
    return cell["cell_type"], "".join(cell["source"])


def notebook_text(source: str, earlier: str | None = None) -> str:
    """Content of the notebook's file.

    Args:
        source: in percent form.
        earlier: content of an earlier file, whose outputs are kept if its cells are the same.
    """
    values = notebook(read_cells(source), json.loads(earlier) if earlier else None)
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write or check all notebooks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    differing = []
    for name in NAMES:
        path = EXAMPLES / f"{name}.ipynb"
        earlier = path.read_text(encoding="utf-8") if path.is_file() else None
        text = notebook_text(path.with_suffix(".py").read_text(encoding="utf-8"), earlier)
        if earlier != text:
            differing.append(path.name)
            if not args.check:
                path.write_text(text, encoding="utf-8")
    print(", ".join(differing) or "all notebooks equal their sources")
    sys.exit(1 if args.check and differing else 0)


if __name__ == "__main__":
    main()
