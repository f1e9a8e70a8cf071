# SPDX-License-Identifier: Apache-2.0
"""The append-only record of a study: ``results.jsonl``.

One JSON object a line. ``"kind": "measure"`` is a :class:`Row`; ``"kind": "outcome"`` says that an
arm finished or failed on a seed. The rows of a run and its outcome are appended by one write, so
a run either counts wholly or is run again. Nothing is ever rewritten: where a number was measured
twice, the later line counts.

A run's rows share all that its recipe says of their protocols. That stands once, in a line of
``"kind": "settings"`` before them, and each row names it; otherwise nine tenths of the file would
be repetition.

Each line has a checksum of its own, and lines of one write say how many they are
(:mod:`pippin.system.lines`). An outcome counts only where all lines are there that were written
with it: so a run that lost a line is run again.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pippin.config import IDENTITY, Config, ConfigError, fingerprint
from pippin.system.files import write_bytes
from pippin.system.formats import FORMATS, VERSION, FormatError, check_format
from pippin.system.lines import (
    DamagedLineError,
    append_bytes,
    append_lines,
    is_emptied,
    parse_line,
    read_lines,
)
from pippin.system.regular import read_regular

KIND = "results"
"""Of :data:`pippin.system.formats.FORMATS`; each line states its version, for a file may be
continued by another one."""

Subject = Literal["arm", "untrained", "real"]
Status = Literal["finished", "diverged", "failed"]
OF_FILES = tuple(f"measure.{entry}" for entry in IDENTITY)
"""Entries of a protocol that say which files were used; rows of earlier versions have none."""


@dataclass(frozen=True, kw_only=True)
class Row(Config):
    """One measured number with its full protocol."""

    study: str
    arm: str
    seed: int
    """Training seed."""
    metric: str
    value: float | None
    """None where it is not a finite number; then ``diverged`` is true."""
    low: float | None
    high: float | None
    """95 % interval of this one measurement; None where it has none."""
    interval_over: str
    """What the interval is over: "samples", "pairs", ..."""
    n: int
    """How many samples, pairs, ... were measured."""
    unit: str
    better: str
    """"lower", "higher", or something else where neither is better."""
    subject: Subject = "arm"
    """The trained arm, its untrained weights, or held-out real pictures."""
    diverged: bool = False
    protocol: dict[str, Any]
    """Every setting that can change the number, by dotted path; ``measure.*`` are the metric's."""
    fingerprint: str
    """Of the whole protocol."""
    comparable: str
    """Of the protocol without the study's declared axes and the seed: numbers may be ranked
    together if and only if these are equal."""

    @property
    def key(self) -> tuple[str, int, str, str, str]:
        """What makes a later line replace an earlier one: the same measure of the same run, though
        its weights may be others since."""
        own = {path: value for path, value in self.protocol.items() if path not in OF_FILES}
        mark = self.fingerprint if len(own) == len(self.protocol) else fingerprint(own)
        return (self.arm, self.seed, self.metric, self.subject, mark)

    @property
    def fixed(self) -> bool:
        """Whether no draw can change the number: the size of a model, not a measurement."""
        return self.better == "neither" and self.interval_over == "none"


@dataclass(frozen=True, kw_only=True)
class Outcome(Config):
    """How one run ended."""

    arm: str
    seed: int
    status: Status
    """A diverged run is a result: it is not tried again. A failed one is."""
    message: str = ""
    fingerprint: str
    """Of the run's recipe."""
    wall_seconds: float
    """Time of this call, resumed parts before it not counted."""
    written: str
    """UTC time, ISO 8601."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a results file holds."""

    rows: tuple[Row, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    problems: tuple[str, ...] = ()
    """Lines that could not be read, each with its number and reason: never left out silently."""

    def done(self, arm: str, seed: int, fingerprint: str) -> bool:
        """Whether this very recipe has finished, or diverged, on this seed."""
        return any(
            (one.arm, one.seed, one.fingerprint) == (arm, seed, fingerprint)
            and one.status != "failed"
            for one in self.outcomes
        )

    def latest(self, arm: str, seed: int) -> Outcome | None:
        """The last outcome of a run."""
        found = [one for one in self.outcomes if (one.arm, one.seed) == (arm, seed)]
        return found[-1] if found else None


def append(path: Path, entries: list[Row | Outcome]) -> None:
    """Add entries to the end of the file; see :func:`pippin.system.lines.append_lines`."""
    settings: dict[str, dict[str, Any]] = {}
    lines = [_values(entry, settings) for entry in entries]
    said = [{"kind": "settings", "name": name, "of": of} for name, of in settings.items()]
    append_lines(path, ({VERSION: FORMATS[KIND], **line} for line in [*said, *lines]))


def repair(path: Path) -> str | None:
    """Take out of the file, and keep beside it, what a kill or damage left of runs whose other
    lines are not there: those runs are run again.

    Call it only where no other process writes. Returns what was done, None where nothing was.
    """
    content = read_regular(path) if path.exists() else b""
    note = None
    if not content.endswith(b"\n") and _is_object(content[content.rfind(b"\n") + 1 :]):
        append_bytes(path, b"\n")
        content += b"\n"
        note = f"{path.name}: the last line had no end; it was whole and is kept"
    lines = [line + b"\n" for line in content.split(b"\n")]
    torn = _spoiled(path, lines)
    if not torn:
        return note
    aside = path.with_name(f"{path.name}.torn")
    append_bytes(aside, b"".join(lines[number - 1] for number in torn))
    kept = [line for number, line in enumerate(lines, 1) if number not in torn and line.strip()]
    write_bytes(path, b"".join(kept)) if kept else path.unlink()
    return (
        f"{path.name}: {len(torn)} lines (the first is line {torn[0]}) were torn, damaged or of "
        f"runs that lack others; they were moved to {aside.name}"
    )


def _spoiled(path: Path, lines: list[bytes]) -> list[int]:
    """Numbers of lines that are taken out. Others that cannot be read stay, and are named: they
    may be of an earlier version, whose run would not be run again."""
    gaps = read_lines(path).gaps
    found = {number for gap in gaps for number in (*gap.numbers, *gap.damaged)}
    found |= {number for number, line in enumerate(lines, 1) if _is_damaged(line)}
    if lines[-1].strip():  # a last line that a kill cut off
        found.add(len(lines))
    return sorted(found)


def read(path: Path) -> Results:
    """All that the file holds; the file is not changed. A missing file is an empty one.

    Raises:
        FormatError: a line is of a newer version.
    """
    rows: dict[tuple[str, int, str, str, str], Row] = {}
    outcomes: list[Outcome] = []
    lines, problems, gaps = read_lines(path)
    partial = {number for gap in gaps for number in gap.numbers}
    settings: dict[str, dict[str, Any]] = {}
    for number, values in lines.items():
        try:
            check_format(KIND, values.pop(VERSION, None), f"{path}, line {number},")
            if values.get("kind") == "settings":
                name, shared = _settings(values)
                settings[name] = shared
                continue
            entry = _entry(values, settings)
        except FormatError:
            raise
        except ValueError as error:
            problems[number] = str(error)
            continue
        if isinstance(entry, Row):
            rows[entry.key] = entry
        elif number not in partial:
            outcomes.append(entry)
    said = [f"{path.name} line {n} does not count: {problems[n]}" for n in sorted(problems)]
    said += [f"{path.name} {gap}" for gap in gaps if gap.missing]
    if is_emptied(path):
        said.append(emptied(path))
    return Results(rows=tuple(rows.values()), outcomes=tuple(outcomes), problems=tuple(said))


def emptied(path: Path) -> str:
    """What is said of a file of results that has no line."""
    return (
        f"{path.name} is empty, and is written with lines in it: they are gone. Put a copy of it "
        "back, or give the command again that wrote it"
    )


def _values(entry: Row | Outcome, settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """An entry's line; a row's settings go into the table, under the name that its line has."""
    values = entry.to_dict()
    if isinstance(entry, Outcome):
        return {"kind": "outcome"} | values
    content = values["protocol"]
    own = {path: value for path, value in content.items() if path.startswith("measure.")}
    shared = {path: value for path, value in content.items() if path not in own}
    name = fingerprint(shared)
    settings[name] = shared
    return {"kind": "measure"} | values | {"protocol": own, "settings": name}


def check_fingerprint(what: str, content: dict[str, Any], recorded: Any) -> None:
    """Refuse a record that was changed after it was written.

    Args:
        what: is recorded, for the message: "protocol".
        content: of it, by path.
        recorded: its fingerprint in the file.

    Raises:
        ConfigError: the fingerprint is another one's.
    """
    found = fingerprint(content)
    if found != recorded:
        raise ConfigError(
            f"its {what} differs from what was written: its fingerprint is {found}, and "
            f"{recorded!r} is recorded; restore the file"
        )


def _settings(values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and content of a line of settings."""
    name, content = values.get("name"), values.get("of")
    if not isinstance(name, str) or not isinstance(content, dict):
        raise ConfigError('a line of "settings" must have a "name" and what it stands "of"')
    check_fingerprint('"of"', content, name)
    return name, content


def _entry(values: dict[str, Any], settings: dict[str, dict[str, Any]]) -> Row | Outcome:
    kind = values.pop("kind", None)
    if kind == "measure":
        name = values.pop("settings", None)  # files of earlier versions have none
        if name is not None:
            if name not in settings:
                raise ConfigError(
                    f"its settings {name!r} are on no line before it that can be read"
                )
            if isinstance(own := values.get("protocol"), dict):
                values["protocol"] = settings[name] | own
        row = Row.from_dict(values)
        check_fingerprint("protocol", row.protocol, row.fingerprint)
        return row
    if kind == "outcome":
        return Outcome.from_dict(values)
    raise ConfigError(f'"kind" must be "measure" or "outcome"; got {kind!r}')


def _is_damaged(line: bytes) -> bool:
    try:
        parse_line(line)
    except DamagedLineError:
        return True
    except ValueError:
        return False
    return False


def _is_object(line: bytes) -> bool:
    try:
        parse_line(line)
    except ValueError:
        return False
    return True
