# SPDX-License-Identifier: Apache-2.0
"""First import of a fork server of ``multiprocessing``; in other processes it does nothing.

Python's fork server lives as long as its children, and they outlive a killed client. This server
ends with the process that started it, and the kernel ends the children with the server, even while
they import or compute in native code, where no thread of Python runs. The server ignores signals
meant for its client, which stops the children itself.
"""

import os
import signal
import sys
from multiprocessing import forkserver

from pippin.system.signals import STOPS
from pippin.system.workers.processes import end_when_orphaned, end_with

_IGNORED = [number for number in STOPS if number != signal.SIGINT]
"""The server's own code ignores SIGINT and restores it in the children."""
_server = [os.getpid()]
"""Process id of the server; empty in its children, whose own children are none of its."""


def _begin_child() -> None:
    if _server:
        end_with(_server.pop())
        for number in _IGNORED:
            signal.signal(number, signal.SIG_DFL)


if getattr(sys.modules["__main__"], "main", None) is forkserver.main:
    end_when_orphaned()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.register_at_fork(after_in_child=_begin_child)
