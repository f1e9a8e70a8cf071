# SPDX-License-Identifier: Apache-2.0
"""Largest files and functions of the package: a report, not a check."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "pippin"
SHOWN = 5


def functions(path: Path) -> list[tuple[int, str]]:
    """(lines, name) of every function of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{path.stem}.{node.name}")
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    ]


def main() -> None:
    """Print both lists."""
    paths = sorted(PACKAGE.rglob("*.py"))
    files = sorted(
        (
            (len(p.read_text(encoding="utf-8").splitlines()), str(p.relative_to(PACKAGE)))
            for p in paths
        ),
        reverse=True,
    )
    largest = sorted((entry for path in paths for entry in functions(path)), reverse=True)
    print(f"{len(paths)} files, {sum(lines for lines, _ in files)} lines")
    print("largest files:    ", ", ".join(f"{name} {lines}" for lines, name in files[:SHOWN]))
    print("largest functions:", ", ".join(f"{name} {lines}" for lines, name in largest[:SHOWN]))


if __name__ == "__main__":
    main()
