# SPDX-License-Identifier: Apache-2.0
"""Amount and form of the output beside results: quiet, verbose, lines only, a name for lines.

The switches are environment variables, so that worker processes inherit them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

QUIET, VERBOSE = "PIPPIN_QUIET", "PIPPIN_VERBOSE"
LINES_ONLY = "PIPPIN_LINES_ONLY"
"""Set for processes that share a terminal, where bars would overwrite each other."""
LINE_NAME = "PIPPIN_LINE_NAME"


@contextmanager
def hidden_progress(hidden: bool = True) -> Iterator[None]:
    """Hide progress bars and lines inside the context, also those of processes started there;
    results, notes and errors are still printed."""
    with _variable(QUIET, "1" if hidden else None):
        yield


def progress_hidden() -> bool:
    """Whether :func:`hidden_progress` hides progress bars and lines."""
    return os.environ.get(QUIET) == "1"


@contextmanager
def verbose_progress(verbose: bool = True) -> Iterator[None]:
    """Print more inside the context: a training's line for every log line, and its header and
    events on a terminal too."""
    with _variable(VERBOSE, "1" if verbose else None):
        yield


def progress_verbose() -> bool:
    """Whether :func:`verbose_progress` asks for more output."""
    return os.environ.get(VERBOSE) == "1"


def lines_only() -> bool:
    """Whether this process prints lines on a terminal too, because others print there."""
    return os.environ.get(LINES_ONLY) == "1"


@contextmanager
def named_lines(name: str) -> Iterator[None]:
    """Begin each line of notes and progress inside the context with ``[name]``."""
    with _variable(LINE_NAME, name):
        yield


def with_line_name(text: str) -> str:
    """Text whose lines begin with the name of :func:`named_lines`, where there is one."""
    name = os.environ.get(LINE_NAME)
    return "\n".join(f"[{name}] {line}" for line in text.split("\n")) if name else text


@contextmanager
def _variable(name: str, value: str | None) -> Iterator[None]:
    """Set an environment variable inside the context; None = leave it as it is."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
