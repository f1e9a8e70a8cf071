# SPDX-License-Identifier: Apache-2.0
"""The append-only results file of a study: ``results.jsonl``.

One JSON object a line. ``"kind": "measure"`` is a :class:`Row`; ``"kind": "outcome"`` says that an
arm finished or failed on a seed. The rows of a run and its outcome are appended by one write, so
a run either counts completely or is run again. Nothing is ever rewritten: where a number was
measured twice, the later line counts.

A run's rows share the recipe's part of their protocols. One line of ``"kind": "settings"`` before
them holds it, and each row refers to it by name; otherwise nine tenths of the file would be
repetition.

Each line has its own checksum, and the lines of one write state their number
(:mod:`pippin.system.lines`). An outcome counts only if all lines of its write are present: a
run with a missing line is run again.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pippin.config import IDENTITY, Config, ConfigError, fingerprint
from pippin.system.files import read_regular, write_bytes
from pippin.system.formats import FORMATS, VERSION, FormatError, check_format
from pippin.system.lines import (
    DamagedLineError,
    append_bytes,
    append_lines,
    has_no_lines,
    parse_line,
    read_lines,
)

KIND = "results"
"""Key of :data:`pippin.system.formats.FORMATS`; each line states its version, because another
version may append to a file."""

Subject = Literal["arm", "untrained", "real"]
Status = Literal["finished", "diverged", "failed"]
OF_FILES = tuple(f"measure.{entry}" for entry in IDENTITY)
"""Entries of a protocol that identify the used files; rows of earlier versions have none."""


@dataclass(frozen=True, kw_only=True)
class Row(Config):
    """One measured number with its full protocol."""

    study: str
    arm: str
    seed: int
    """Training seed."""
    metric: str
    value: float | None
    """None if the value is not finite; then ``diverged`` is true."""
    low: float | None
    high: float | None
    """95 % interval of this one measurement; None without an interval."""
    interval_over: str
    """Resampled units of the interval: "samples", "pairs", ..."""
    n: int
    """Number of measured samples, pairs, ..."""
    unit: str
    better: str
    """"lower", "higher", or another value if neither is better."""
    subject: Subject = "arm"
    """The trained arm, its untrained weights, or held-out real images."""
    diverged: bool = False
    protocol: dict[str, Any]
    """Every setting that can change the number, by dotted path; ``measure.*`` are the metric's."""
    fingerprint: str
    """Fingerprint of the full protocol."""
    comparable: str
    """Fingerprint of the protocol without the study's declared axes and the seed: numbers may be
    ranked together if and only if their values of this field are equal."""

    @property
    def key(self) -> tuple[str, int, str, str, str]:
        """Key by which a later line replaces an earlier one: the same metric of the same run, even
        if the run's weights have changed."""
        settings = {path: value for path, value in self.protocol.items() if path not in OF_FILES}
        digest = self.fingerprint if len(settings) == len(self.protocol) else fingerprint(settings)
        return (self.arm, self.seed, self.metric, self.subject, digest)

    @property
    def fixed(self) -> bool:
        """True for numbers without randomness, such as the size of a model."""
        return self.better == "neither" and self.interval_over == "none"


@dataclass(frozen=True, kw_only=True)
class Outcome(Config):
    """The outcome of one run."""

    arm: str
    seed: int
    status: Status
    """A diverged run is a result and is not run again. A failed run is run again."""
    message: str = ""
    fingerprint: str
    """Fingerprint of the run's recipe."""
    wall_seconds: float
    """Wall time of the last call; earlier calls of a resumed run do not count."""
    written: str
    """UTC time, ISO 8601."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Results:
    """The content of a results file."""

    rows: tuple[Row, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    problems: tuple[str, ...] = ()
    """Unreadable lines, each with its number and the reason."""

    def done(self, arm: str, seed: int, fingerprint: str) -> bool:
        """True if the recipe with this fingerprint has finished, or diverged, on this seed."""
        return any(
            (outcome.arm, outcome.seed, outcome.fingerprint) == (arm, seed, fingerprint)
            and outcome.status != "failed"
            for outcome in self.outcomes
        )

    def latest(self, arm: str, seed: int) -> Outcome | None:
        """The last outcome of a run."""
        outcomes = [
            outcome for outcome in self.outcomes if (outcome.arm, outcome.seed) == (arm, seed)
        ]
        return outcomes[-1] if outcomes else None


def append(path: Path, entries: list[Row | Outcome]) -> None:
    """Add entries to the end of the file; see :func:`pippin.system.lines.append_lines`."""
    settings: dict[str, dict[str, Any]] = {}
    lines = [_values(entry, settings) for entry in entries]
    settings_lines = [
        {"kind": "settings", "name": name, "of": of} for name, of in settings.items()
    ]
    append_lines(path, ({VERSION: FORMATS[KIND], **line} for line in [*settings_lines, *lines]))


def repair(path: Path) -> str | None:
    """Move damaged and incomplete runs to ``results.jsonl.torn``, so that they are run again.

    Call it only while no other process writes.

    Returns:
        A message about the repair; None if the file was intact.
    """
    content = read_regular(path) if path.exists() else b""
    note = None
    if not content.endswith(b"\n") and _is_object(content[content.rfind(b"\n") + 1 :]):
        append_bytes(path, b"\n")
        content += b"\n"
        note = f"{path.name}: the last line lacked its newline; it was complete and is kept"
    lines = [line + b"\n" for line in content.split(b"\n")]
    torn = _lines_to_remove(path, lines)
    if not torn:
        return note
    aside = path.with_name(f"{path.name}.torn")
    append_bytes(aside, b"".join(lines[number - 1] for number in torn))
    kept = [line for number, line in enumerate(lines, 1) if number not in torn and line.strip()]
    write_bytes(path, b"".join(kept)) if kept else path.unlink()
    return (
        f"{path.name}: {len(torn)} lines (the first is line {torn[0]}) were torn, damaged or of "
        f"incomplete runs; they were moved to {aside.name}"
    )


def _lines_to_remove(path: Path, lines: list[bytes]) -> list[int]:
    """Numbers of the lines to remove. Other unreadable lines stay and are reported: they may be
    of an earlier version, whose runs would not be run again."""
    gaps = read_lines(path).gaps
    numbers = {number for gap in gaps for number in (*gap.numbers, *gap.damaged)}
    numbers |= {number for number, line in enumerate(lines, 1) if _is_damaged(line)}
    if lines[-1].strip():  # a last line that was cut off by a kill
        numbers.add(len(lines))
    return sorted(numbers)


def read(path: Path) -> Results:
    """Read a results file without changing it. A missing file gives empty results.

    Raises:
        FormatError: a line has a newer version.
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
    messages = [f"{path.name} line {n} does not count: {problems[n]}" for n in sorted(problems)]
    messages += [f"{path.name} {gap}" for gap in gaps if gap.missing]
    if has_no_lines(path):
        messages.append(emptied(path))
    return Results(rows=tuple(rows.values()), outcomes=tuple(outcomes), problems=tuple(messages))


def emptied(path: Path) -> str:
    """Message about a results file without lines."""
    return (
        f"{path.name} is empty: its lines are lost. Restore a copy of the file, or run the "
        "command that wrote it again"
    )


def _values(entry: Row | Outcome, settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The JSON object of an entry; a row's settings are added to ``settings`` under their name."""
    values = entry.to_dict()
    if isinstance(entry, Outcome):
        return {"kind": "outcome"} | values
    content = values["protocol"]
    measured = {path: value for path, value in content.items() if path.startswith("measure.")}
    shared = {path: value for path, value in content.items() if path not in measured}
    name = fingerprint(shared)
    settings[name] = shared
    return {"kind": "measure"} | values | {"protocol": measured, "settings": name}


def check_fingerprint(what: str, content: dict[str, Any], recorded: Any) -> None:
    """Refuse a record that was changed after it was written.

    Args:
        what: name of the record in the message: "protocol".
        content: its settings by path.
        recorded: its fingerprint in the file.

    Raises:
        ConfigError: the fingerprints differ.
    """
    digest = fingerprint(content)
    if digest != recorded:
        raise ConfigError(
            f"its {what} differs from what was written: its fingerprint is {digest}, and "
            f"{recorded!r} is recorded; restore the file"
        )


def _settings(values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and content of a line of settings."""
    name, content = values.get("name"), values.get("of")
    if not isinstance(name, str) or not isinstance(content, dict):
        raise ConfigError('a line of "kind": "settings" must have a "name" and an object "of"')
    check_fingerprint('"of"', content, name)
    return name, content


def _entry(values: dict[str, Any], settings: dict[str, dict[str, Any]]) -> Row | Outcome:
    kind = values.pop("kind", None)
    if kind == "measure":
        name = values.pop("settings", None)  # files of earlier versions have none
        if name is not None:
            if name not in settings:
                raise ConfigError(f"its settings {name!r} are on no readable line before it")
            if isinstance(measured := values.get("protocol"), dict):
                values["protocol"] = settings[name] | measured
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
