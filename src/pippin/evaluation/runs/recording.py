# SPDX-License-Identifier: Apache-2.0
"""Measures in ``results.jsonl``: a line each, with its protocol and the protocol's fingerprint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pippin.config import fingerprint
from pippin.evaluation.measure import Measure
from pippin.evaluation.runs.protocol import refuse_newer_results
from pippin.system.files import remove_temporary_files
from pippin.system.formats import FORMATS, VERSION
from pippin.system.lines import Lines, has_no_lines, read_lines, save_unreadable_lines, write_lines
from pippin.system.text import print_above_progress


def with_fingerprints(
    measures: Sequence[Measure], recipe_protocol: dict[str, Any]
) -> list[dict[str, Any]]:
    """Each measure as JSON values, with its whole protocol and the protocol's fingerprint."""
    lines = []
    for measure in measures:
        content = recipe_protocol | {f"measure.{k}": v for k, v in measure.protocol.items()}
        own = {"protocol": content, "fingerprint": fingerprint(content)}
        lines.append(measure.to_dict() | own)
    return lines


def write_results(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Add measures of :func:`with_fingerprints` to a file of JSON lines.

    Earlier lines stay, except those of the same measure, subject and fingerprint. The last line of
    a measure is the newest. Unreadable or altered lines are kept in ``PATH.torn``, and a note says
    so.

    Raises:
        FormatError: an earlier line is of a newer version; the file stays.
    """
    refuse_newer_results(path)
    before = read_lines(path)
    save_unreadable_lines(path, path.with_name(f"{path.name}.torn"))
    new = {_key(line) for line in lines}
    kept = [line for line in before.objects.values() if _key(line) not in new]
    remove_temporary_files(path.parent, path.name)  # of an evaluation that was killed
    _log_problems(before, path)
    write_lines(path, [*kept, *({VERSION: FORMATS["results"], **line} for line in lines)])


def _log_problems(before: Lines, path: Path) -> None:
    """Log which earlier results no longer count."""
    problems = [
        f"{path} line {number} is kept in {path.name}.torn: {reason}"
        for number, reason in before.problems.items()
    ]
    problems += [f"{path} {gap}" for gap in before.gaps if gap.missing]
    problems += [f"{path} is empty: the results that were in it are gone"] * has_no_lines(path)
    for line in problems:
        print_above_progress(Console(stderr=True), line, label="does not count:")


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    return line.get("name"), line.get("subject"), line.get("fingerprint")
