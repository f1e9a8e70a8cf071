# SPDX-License-Identifier: Apache-2.0
"""Provoke a fault and observe the reaction."""

import hashlib
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from disk import Disk
from fault import Fault

TIMEOUT = 300
"""Seconds after which a process is killed."""
LIMITED = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}));"
    "from pippin.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """Observed reaction."""

    code: int
    text: str
    untouched: bool
    faults: list[str] = field(default_factory=list)


def provoke_fault(fault: Fault, run: Path, disk: Disk | None = None) -> Reaction:
    """Provoke a fault and watch.

    Args:
        fault: the fault to provoke.
        run: a copy of a run that may be damaged.
        disk: the disk of the copy, to be filled; without it the file size is limited.
    """
    other = fault.prepare(run)
    before = digests(run)
    if disk is not None and fault.room is not None:
        disk.fill(fault.room)
    limit = fault.file_limit if disk is None else None
    try:
        code, text = _call(fault.arguments, run, limit, fault)
    finally:
        if other is not None:
            other.kill()
            other.wait()
        if disk is not None:
            disk.empty()
    after = digests(run)
    untouched = all(after.get(name) == digest for name, digest in before.items())
    faults = _differences(fault, code, text, untouched)
    if fault.again is not None:
        faults += _left_behind(run) + _not_completed(fault, fault.again, run)
    return Reaction(code=code, text=text, untouched=untouched, faults=faults)


def _call(
    arguments: list[str], run: Path, limit: int | None = None, fault: Fault | None = None
) -> tuple[int, str]:
    """Exit code and messages of one command, which receives the signal of a fault."""
    start = ["-m", "pippin.cli.main"] if limit is None else ["-c", LIMITED.format(limit)]
    process = subprocess.Popen(
        [sys.executable, *start, *(text.replace("{run}", str(run)) for text in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "400"},
        cwd=run,
    )
    try:
        if fault is not None and fault.signal is not None:
            _signal_when(process, fault, run)
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    except BaseException:  # Ctrl-C: leave no process that holds the disk
        process.kill()
        process.wait()
        raise
    return process.returncode, " ".join(f"{err} {out}".split())


def _left_behind(run: Path) -> list[str]:
    """Partial files, in the run and beside it."""
    names = [path.name for path in run.parent.glob(f"{run.name}*/**/.*writing*")]
    return [f"left behind: {names[0]}"] if names else []


def _not_completed(fault: Fault, arguments: list[str], run: Path) -> list[str]:
    """Reasons why the work did not complete with free space."""
    code, text = _call(arguments, run)
    if code != 0:
        return [f"repeated with space: exit code {code}, {message(text)}"]
    return [] if fault.complete(run) else ["repeated with space: not complete"]


def _signal_when(process: subprocess.Popen[str], fault: Fault, run: Path) -> None:
    deadline = time.monotonic() + 120
    while not fault.when(run) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert fault.signal is not None
    process.send_signal(fault.signal)


def _differences(fault: Fault, code: int, text: str, untouched: bool) -> list[str]:
    """Differences from the expected reaction."""
    found = []
    if code != fault.code:
        found.append(f"exit code {code}, expected {fault.code}")
    if not re.search(fault.says, text):
        found.append(f"no message like {fault.says!r}")
    if "Traceback" in text:
        found.append("a traceback")
    if fault.untouched and not untouched:
        found.append("earlier files changed")
    return found


def digests(folder: Path) -> dict[str, str]:
    """Digests of all files below a folder except locks."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in (".lock", "lock")
    }


def message(text: str) -> str:
    """First sentence of the output, shortened for a table."""
    text = text.split("┏")[0]  # a table of measures
    text = " ".join(re.sub("[╭╮╰╯│─]+", " ", text).split())  # tyro's frames
    starts = "error: |skipped checkpoint: |skipped: |latent cache: |stopped"
    found = re.search(rf"((?:{starts}).*)", text)
    shown = found[1] if found else text
    shown = re.sub(r"/\S*/(?=[\w.-]+)", ".../", shown).replace("|", "/")
    return shown if len(shown) < 160 else f"{shown[:160]} ..."
