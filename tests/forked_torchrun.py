# SPDX-License-Identifier: Apache-2.0
"""torchrun and its ranks in forks of this process: nothing is imported again.

torchrun's own command and agent run. Its agent, which has threads, starts no rank by a fork, which
would copy the locks that they hold: forks from before its start wait for what it starts.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch.distributed.run
from forked_python import FORK, ForkedPython, run_module, start_program
from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

TWO_RANKS = ("--standalone", "--nproc-per-node", "2")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


class WaitingForks:
    """Forks that wait for the program of a rank; those left over end with :meth:`close`."""

    def __init__(self, number: int) -> None:
        self._waiting: list[tuple[BaseProcess, Connection]] = []
        for _ in range(number):
            receiver, sender = FORK.Pipe(duplex=False)
            process = FORK.Process(target=self._wait, args=(receiver, sender))
            process.start()
            receiver.close()
            self._waiting.append((process, sender))

    def start(self, command: Sequence[str], env: Mapping[str, str]) -> BaseProcess:
        """Start a program in the next of them."""
        process, sender = self._waiting.pop(0)
        sender.send((command, env))
        sender.close()
        return process

    def close(self) -> None:
        """End the others."""
        for process, sender in reversed(self._waiting):  # each has the senders of earlier ones
            sender.close()
            process.join()

    def _wait(self, receiver: Connection, sender: Connection) -> None:
        os.setsid()  # as torchrun starts its ranks
        sender.close()
        try:
            command, env = receiver.recv()
        except EOFError:
            return
        run_module(command, env, {})


class Rank(ForkedPython):
    """The process of a rank, in place of the subprocess.Popen of torchrun's agent."""

    forks: WaitingForks

    def __init__(self, args: Sequence[str], *, env: Mapping[str, str], **options: Any) -> None:
        assert options == {"stdout": None, "stderr": None, "start_new_session": True}
        self._process = self.forks.start(args, env)


@contextmanager
def forked_torchrun(
    words: Sequence[str], folder: Path, *options: str, restarts: int = 0
) -> Iterator[tuple[BaseProcess, Path]]:
    """Process of torchrun with two ranks, and the file of its errors and theirs; it is killed in
    the end.

    Args:
        words: arguments of ``python``.
        folder: gets the file, and ``output`` with all that they print.
        options: further options of torchrun.
        restarts: how often torchrun may start the ranks again.
    """
    output, errors = folder / "output", folder / "errors"
    given = [*TWO_RANKS, "--max-restarts", str(restarts), *options, *words]
    running = FORK.Process(target=_launch, args=(given, output, errors, 2 + 2 * restarts))
    running.start()
    try:
        yield running, errors
    finally:
        running.kill()
        running.join()


def _launch(words: list[str], output: Path, errors: Path, ranks: int) -> None:
    with output.open("w") as printed, errors.open("w") as said:
        start_program({1: printed, 2: said})
    os.environ |= ENVIRONMENT
    Rank.forks = WaitingForks(ranks)
    subprocess_handler.Popen = Rank
    sys.argv = ["torchrun", *words]
    try:
        torch.distributed.run.main(words)
    finally:
        Rank.forks.close()
