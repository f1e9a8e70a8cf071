# SPDX-License-Identifier: Apache-2.0
"""First import of a fork server of ``multiprocessing``; in other processes it does nothing.

The kernel ends the server's children with it, even while they import or compute in native code,
where no thread of Python runs. The server ends when its client does, but not during its imports;
until its first fork, the kernel therefore ends it with the thread that started it. It ignores
signals meant for its client, which stops the children itself.
"""

import os
import signal
import sys
from multiprocessing import forkserver

from pippin.system.signals import STOPS
from pippin.system.worker_processes import end_with, set_parent_death_signal

_IGNORED = [number for number in STOPS if number != signal.SIGINT]
"""The server's own code ignores SIGINT and restores it in the children."""
_server = [os.getpid()]
"""Process id of the server; empty in its children, whose own children are none of its."""


def _begin_child() -> None:
    if _server:
        end_with(_server.pop())
        for number in _IGNORED:
            signal.signal(number, signal.SIG_DFL)


def _outlive_starting_thread() -> None:
    if _server:
        set_parent_death_signal(0)


if getattr(sys.modules["__main__"], "main", None) is forkserver.main:
    set_parent_death_signal()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.register_at_fork(before=_outlive_starting_thread, after_in_child=_begin_child)
