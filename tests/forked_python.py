# SPDX-License-Identifier: Apache-2.0
"""Python programs in forks of this process, which has imported torch and the package: nothing is
imported again."""

import faulthandler
import math
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any

import jaxtyping
import torch

FORK = multiprocessing.get_context("fork")
TIMEOUT = 600.0
"""Seconds after which a program in a fork is killed."""


def wait_for_exit(process: BaseProcess, timeout: float | None) -> int | None:
    """Exit code of a process; None if it runs after so many seconds.

    A ``join`` with a timeout would wait for the forks of the process, too.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while process.exitcode is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return process.exitcode


class ForkedPython:
    """Process of ``python -m MODULE ...`` in place of :class:`subprocess.Popen`.

    The program has the modules and the path of this process, and its own arguments, environment,
    output and handlers of signals.

    Args:
        command: Python, ``-u`` or not, ``-m``, a module, and its arguments.
        env: its environment.
        stdout, stderr: open files; None = those of this process.
        options: others of Popen, which say nothing to a program in Python.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
        **options: Any,
    ) -> None:
        assert not options.get("shell")
        files = {number: file for number, file in ((1, stdout), (2, stderr)) if file is not None}
        self._process: BaseProcess = FORK.Process(target=run_module, args=(command, env, files))
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code once it has ended, -N after signal N."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended."""
        code = wait_for_exit(self._process, timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a forked program", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to a program that has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run_code(
    program: str, folder: Path, *arguments: str, timeout: float = TIMEOUT
) -> subprocess.CompletedProcess[str]:
    """Exit code and output, standard error included, of a program in a fork.

    Args:
        program: Python code, run as by ``python -c``.
        folder: its working directory.
        arguments: words after ``-c`` in ``sys.argv``.
        timeout: seconds after which it is killed.

    Raises:
        TimeoutExpired: it was killed; holds its output.
    """
    output = folder / ".output"
    process = FORK.Process(target=_run_code, args=(program, folder, output, arguments))
    process.start()
    hung = wait_for_exit(process, timeout) is None
    if hung:
        process.kill()
        process.join()
    text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    output.unlink(missing_ok=True)
    if hung:
        raise subprocess.TimeoutExpired(program, timeout, text)
    return subprocess.CompletedProcess(program, process.exitcode or 0, text)


def _run_code(program: str, folder: Path, output: Path, arguments: Sequence[str]) -> None:
    os.chdir(folder)
    with output.open("a") as file:
        start_program({1: file, 2: file})
    sys.path.insert(0, "")
    sys.argv = ["-c", *arguments]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(program, "<string>", "exec"), main.__dict__)


def run_module(
    command: Sequence[str], env: Mapping[str, str], files: Mapping[int, IO[Any]]
) -> None:
    """Run ``python -m MODULE ...`` in this process, which is a new fork."""
    os.environ.clear()
    os.environ.update(env)
    start_program(files)
    python, *words = command
    assert python == sys.executable
    marker = words.index("-m")
    assert words[:marker] in ([], ["-u"])
    sys.argv = ["-m", *words[marker + 2 :]]
    runpy.run_module(words[marker + 1], run_name="__main__", alter_sys=True)


def start_program(files: Mapping[int, IO[Any]]) -> None:
    """Give this process, which is a new fork, what a program starts with.

    Args:
        files: open files in place of the output, by its number, that it has from its parent.
    """
    for number, file in files.items():
        os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, closefd=False) for n in (1, 2))
    faulthandler.disable()
    for number in signal.valid_signals() - {signal.SIGINT}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.simplefilter("default")  # printed as in a program; pytest makes errors of them
    jaxtyping.config.update("jaxtyping_disable", True)  # the checks of tests/shape_checks.py
    torch.set_num_threads(1)
    torch.manual_seed(0)
