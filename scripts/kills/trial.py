# SPDX-License-Identifier: Apache-2.0
"""One call of a verb in a forked process, with three kinds of kill."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

EXIT_TIMEOUT = 60.0
"""Seconds within which workers must end after their parent; a fork server first ends its imports,
which take that long on busy cores."""
LONGEST = 300.0
"""Seconds after which a call counts as hung."""
WHO = ("parent", "child", "group")
"""Victims: the main process, one of its descendants, or all of them."""


@dataclass(kw_only=True)
class Call:
    """A running call.

    Args:
        work: returns an exit code; called in a fork, so that imports are shared.
        folder: its working directory.
        log: file to which its output is appended.
    """

    work: Callable[[], int]
    folder: Path
    log: Path
    pid: int = 0
    code: int | None = None
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Start."""
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run_forked(self.work, self.folder, self.log)

    def ended(self) -> bool:
        """Whether the call has ended; :attr:`code` is then its exit code, negative = a signal."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self, seconds: float) -> bool:
        """Wait for the end for at most some seconds; whether it ended."""
        deadline = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.ended()

    def kill(self, who: str, draws: random.Random) -> set[int] | None:
        """Kill by SIGKILL.

        Args:
            who: one of :data:`WHO`.
            draws: chooses the child.

        Returns:
            All live descendants; None if there was no child to kill.
        """
        os.kill(self.pid, signal.SIGSTOP)  # it must not fork while they are counted
        below = descendants(self.pid)
        if who == "child" and not below:
            os.kill(self.pid, signal.SIGCONT)
            return None
        victims = {
            "parent": [self.pid],
            "child": [draws.choice(sorted(below))] if below else [],
            "group": [self.pid, *below],
        }[who]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        return below


def _run_forked(work: Callable[[], int], folder: Path, log: Path) -> None:
    """Run the work in the forked process, then exit."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = work()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def descendants(pid: int) -> set[int]:
    """All descendants of a process."""
    parents = {one: parent for one, parent, _ in _processes()}
    found = {pid}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def survivors(pids: set[int]) -> dict[int, str]:
    """Processes that still run after :data:`EXIT_TIMEOUT` seconds, with their commands; they are
    killed."""
    deadline = time.monotonic() + EXIT_TIMEOUT
    while alive := _alive(pids):
        if time.monotonic() > deadline:
            commands = {pid: _command(pid) for pid in alive}
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return commands
        time.sleep(0.05)
    return {}


def _command(pid: int) -> str:
    """State and command line of a process."""
    command = ["ps", "-o", "ppid=,stat=,wchan=,args=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()[
        :160
    ]


def _alive(pids: set[int]) -> set[int]:
    if not pids:
        return set()
    return {one for one, _, state in _processes() if one in pids and not state.startswith("Z")}


def _processes() -> list[tuple[int, int, str]]:
    """(process, parent, state) of all."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    )
    rows = (line.split() for line in listed.stdout.splitlines())
    return [(int(pid), int(parent), state) for pid, parent, state in rows]
