# SPDX-License-Identifier: Apache-2.0
"""Provoke a fault and watch."""

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

LONGEST = 300
"""Seconds after which a process is killed, which is no exit code of the table."""
LIMITED = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}));"
    "from pippin.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What happened."""

    code: int
    text: str
    untouched: bool
    faults: list[str] = field(default_factory=list)


def meet(fault: Fault, run: Path, disk: Disk | None = None) -> Seen:
    """Provoke a fault and watch.

    Args:
        fault: what goes wrong.
        run: a copy that may be spoiled.
        disk: the one that holds the copy, to be filled; without it the size of files is limited.
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
    faults = _unmet(fault, code, text, untouched)
    if fault.again is not None:
        faults += _left_behind(run) + _not_mended(fault, fault.again, run)
    return Seen(code=code, text=text, untouched=untouched, faults=faults)


def _call(
    arguments: list[str], run: Path, limit: int | None = None, fault: Fault | None = None
) -> tuple[int, str]:
    """Exit code and messages of one command, which gets the signal of a fault."""
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
        out, err = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    except BaseException:  # Ctrl-C: leave no process behind, which would hold the disk
        process.kill()
        process.wait()
        raise
    return process.returncode, " ".join(f"{err} {out}".split())


def _left_behind(run: Path) -> list[str]:
    """Files that are half-written, in the run and beside it."""
    found = [path.name for path in run.parent.glob(f"{run.name}*/**/.*writing*")]
    return [f"left behind: {found[0]}"] if found else []


def _not_mended(fault: Fault, arguments: list[str], run: Path) -> list[str]:
    """Why the work did not come to its end when there was room again."""
    code, text = _call(arguments, run)
    if code != 0:
        return [f"again with room: exit code {code}, {message(text)}"]
    return [] if fault.complete(run) else ["again with room: not complete"]


def _signal_when(process: subprocess.Popen[str], fault: Fault, run: Path) -> None:
    deadline = time.monotonic() + 120
    while not fault.when(run) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert fault.signal is not None
    process.send_signal(fault.signal)


def _unmet(fault: Fault, code: int, text: str, untouched: bool) -> list[str]:
    """What was not as declared."""
    found = []
    if code != fault.code:
        found.append(f"exit code {code}, wanted {fault.code}")
    if not re.search(fault.says, text):
        found.append(f"no message like {fault.says!r}")
    if "Traceback" in text:
        found.append("a traceback")
    if fault.untouched and not untouched:
        found.append("earlier files changed")
    return found


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder but locks."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in (".lock", "lock")
    }


def message(text: str) -> str:
    """The first sentence of what was said, short enough for a table."""
    text = text.split("┏")[0]  # a table of measures
    text = " ".join(re.sub("[╭╮╰╯│─]+", " ", text).split())  # frames that tyro draws
    found = re.search(r"(error: .*|passed over: .*|latent cache: .*|stopped.*)", text)
    shown = found[1] if found else text
    shown = re.sub(r"/\S*/(?=[\w.-]+)", ".../", shown).replace("|", "/")
    return shown if len(shown) < 160 else f"{shown[:160]} ..."
