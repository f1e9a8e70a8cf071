# SPDX-License-Identifier: Apache-2.0
"""Text that reaches a terminal or a log: names, captions and messages of others cannot act there.

A file name may hold escape sequences that rename the window or hide what follows, marks that turn
the direction of writing round, brackets that rich takes for markup, or bytes that are no UTF-8.
Everything that pippin prints goes through :func:`say` or :func:`note`.
"""

import re
import sys

from rich.console import Console
from rich.text import Text

_ACTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of writing
    "\u2028\u2029"  # line ends that a terminal may not show as such
    "\ud800-\udfff]"  # bytes of a name that is not UTF-8
)


def printable(text: object) -> str:
    """Text with visible escapes, such as ``\\x1b``, for whatever would act on a terminal.

    Newlines, tabs and the joiners of emoji stay.
    """
    return _ACTS.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def say(text: object = "", *, error: bool = False) -> None:
    """Print a line for people; see :func:`printable`.

    Args:
        text: anything.
        error: whether to print to standard error, where whatever is no result goes.
    """
    print(printable(text), file=sys.stderr if error else sys.stdout, flush=True)


def plain(text: object) -> Text:
    """Text for cells and titles of tables, where rich takes brackets of a string for markup."""
    return Text(printable(text))


def note(console: Console, text: object, *, label: str = "") -> None:
    """Print a line among the progress bars of a console.

    Args:
        console: where.
        text: anything; brackets are no markup in it.
        label: what kind of line it is, shown in yellow before the text.
    """
    head = [(f"{printable(label)} ", "yellow")] if label else []
    console.print(Text.assemble(*head, printable(text)), soft_wrap=True)
