# SPDX-License-Identifier: Apache-2.0
"""Finished parts of an evaluation, kept for the case of an interruption."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pippin.config import fingerprint
from pippin.evaluation.measure import Measure
from pippin.system.formats import FORMATS, VERSION, check_format
from pippin.system.lines import append_lines, read_lines

KIND = "results"
"""Key of :data:`pippin.system.formats.FORMATS`."""


class Stages:
    """Measures by part, kept in a file until all parts are finished.

    Args:
        path: the file; its lines of another protocol are ignored.
        protocol: all that the measures depend on.
    """

    def __init__(self, path: Path, protocol: Mapping[str, Any]) -> None:
        self.path, self.key = path, fingerprint(protocol)
        self._finished = dict(self._load())

    def measure(self, stage: str, compute: Callable[[], list[Measure]]) -> list[Measure]:
        """The measures of one part: from an interrupted evaluation, or computed now."""
        if stage in self._finished:
            return self._finished[stage]
        measures = compute()
        values = [measure.to_dict() for measure in measures]
        line = {"key": self.key, "stage": stage, "measures": values}
        append_lines(self.path, [{VERSION: FORMATS[KIND], **line}])
        return measures

    def done(self) -> None:
        """Remove the file once all parts are finished: the next evaluation starts over."""
        self.path.unlink(missing_ok=True)

    def _load(self) -> Iterator[tuple[str, list[Measure]]]:
        """Load complete parts; a part with a damaged line is computed again."""
        for line in read_lines(self.path).objects.values():
            try:
                check_format(KIND, line.get(VERSION), self.path)
                if line["key"] == self.key:
                    yield line["stage"], [_measure(values) for values in line["measures"]]
            except (ValueError, LookupError, TypeError):
                continue


def _measure(values: dict[str, Any]) -> Measure:
    value = math.nan if values["value"] is None else values["value"]
    return Measure(**values | {"value": value})
