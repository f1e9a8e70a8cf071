# SPDX-License-Identifier: Apache-2.0
"""Safe text for terminals and logs: foreign names, captions and messages cannot act there.

A file name may hold escape sequences that rename the window or hide text, marks that reverse the
writing direction, brackets that rich reads as markup, or bytes that are not UTF-8. All output of
pippin goes through :func:`print_text` or :func:`print_above_progress`.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

_ACTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # writing direction
    "\u2028\u2029"  # line ends that a terminal may not show
    "\ud800-\udfff]"  # bytes of a name that is not UTF-8
)


def printable(text: object) -> str:
    """Text with visible escapes, such as ``\\x1b``, for characters that act on a terminal.

    Newlines, tabs and the joiners of emoji stay.
    """
    return _ACTS.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def print_text(text: object = "", *, error: bool = False) -> None:
    """Print a line for the user; see :func:`printable`.

    Args:
        text: anything.
        error: print to standard error, for everything that is not a result.
    """
    print(printable(text), file=sys.stderr if error else sys.stdout, flush=True)


def plain_text(text: object) -> Text:
    """Text for table cells and titles, where rich reads brackets of a string as markup."""
    return Text(printable(text))


_quiet = False
"""Whether progress bars are hidden."""


@contextmanager
def hidden_progress(hidden: bool = True) -> Iterator[None]:
    """Hide progress bars inside the context; results, notes and errors are still printed."""
    global _quiet
    before, _quiet = _quiet, hidden or _quiet
    try:
        yield
    finally:
        _quiet = before


def progress_hidden() -> bool:
    """Whether :func:`hidden_progress` hides progress bars."""
    return _quiet


def print_above_progress(console: Console, text: object, *, label: str = "") -> None:
    """Print a line above the progress bars of a console.

    Args:
        console: the console with the bars.
        text: anything; brackets are not read as markup.
        label: kind of line, shown in yellow before the text.
    """
    head = [(f"{printable(label)} ", "yellow")] if label else []
    console.print(Text.assemble(*head, printable(text)), soft_wrap=True)
