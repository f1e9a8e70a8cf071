# SPDX-License-Identifier: Apache-2.0
"""Parts of an evaluation that are finished stay so when it is interrupted."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pippin.config import fingerprint
from pippin.evaluation.measure import Measure
from pippin.system.formats import FORMATS, VERSION, check_format
from pippin.system.lines import append_lines, read_lines

KIND = "results"
"""Of :data:`pippin.system.formats.FORMATS`."""


class Stages:
    """Measures by part, kept in a file until all parts are there.

    Args:
        path: of the file; what it holds of another protocol is not used.
        protocol: all that decides the measures.
    """

    def __init__(self, path: Path, protocol: Mapping[str, Any]) -> None:
        self.path, self.key = path, fingerprint(protocol)
        self._found = dict(self._kept())

    def measure(self, stage: str, make: Callable[[], list[Measure]]) -> list[Measure]:
        """The measures of one part: as an interrupted evaluation left them, or made now."""
        if stage in self._found:
            return self._found[stage]
        measures = make()
        values = [one.to_dict() for one in measures]
        line = {"key": self.key, "stage": stage, "measures": values}
        append_lines(self.path, [{VERSION: FORMATS[KIND], **line}])
        return measures

    def done(self) -> None:
        """All parts are there: the next evaluation starts anew."""
        self.path.unlink(missing_ok=True)

    def _kept(self) -> Iterator[tuple[str, list[Measure]]]:
        """Parts that are whole; a damaged line is measured again."""
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
