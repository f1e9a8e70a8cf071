# SPDX-License-Identifier: Apache-2.0
"""Output into a pipe that is closed early, as in ``pippin study list | head -1``.

Such a pipe is no error of the user: pippin ends without a message, with the exit code that a shell
gives other programs.
"""

import os
import select
import sys
from typing import Any, TextIO

BROKEN_PIPE = 141
"""Exit code: 128 and SIGPIPE."""


def is_closed_output(error: BaseException) -> bool:
    """Whether an error comes from writing to standard output or error that nobody reads.

    Pipes between processes of pippin break too, and these errors are not hidden.
    """
    if isinstance(error, SystemExit):  # rich turns the error into this
        return isinstance(error.__context__, BrokenPipeError)
    return isinstance(error, BrokenPipeError) and bool(_unread_streams())


def discard_output() -> None:
    """Send the unread streams to nowhere, so that Python can flush them when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in _unread_streams():
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _unread_streams() -> list[TextIO]:
    return [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]


def _is_unread(stream: Any) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno() if stream else -1, select.POLLOUT)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    except (OSError, ValueError):  # no file, such as a buffer in memory
        return False
