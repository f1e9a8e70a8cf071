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


def meet(fault: Fault, run: Path) -> Seen:
    """Provoke a fault and watch. ``run`` is a copy that may be spoiled."""
    other = fault.prepare(run)
    before = digests(run)
    arguments = [text.replace("{run}", str(run)) for text in fault.arguments]
    start = ["-m", "pippin.cli.main"]
    if fault.file_limit is not None:
        start = ["-c", LIMITED.format(fault.file_limit)]
    process = subprocess.Popen(
        [sys.executable, *start, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "400"},
        cwd=run,
    )
    if fault.signal is not None:
        _signal_when(process, fault, run)
    try:
        out, err = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    if other is not None:
        other.kill()
        other.wait()
    after = digests(run)
    untouched = all(after.get(name) == digest for name, digest in before.items())
    text = " ".join(f"{err} {out}".split())
    return Seen(
        code=process.returncode,
        text=text,
        untouched=untouched,
        faults=_unmet(fault, process.returncode, text, untouched),
    )


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
    text = " ".join(re.sub("[╭╮╰╯│─]+", " ", text).split())  # frames that tyro draws
    found = re.search(r"(error: .*|passed over: .*|latent cache: .*|stopped.*)", text)
    shown = found[1] if found else text
    shown = re.sub(r"/\S*/(?=[\w.-]+)", ".../", shown).replace("|", "/")
    return shown if len(shown) < 160 else f"{shown[:160]} ..."
