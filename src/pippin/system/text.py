# SPDX-License-Identifier: Apache-2.0
"""Text from users, and text that is safe to print: without control characters.

Files of users are UTF-8, or UTF-16 and UTF-32 if a byte order mark declares them. Everything else
is refused: a guess could silently turn one word into another.

A file name, caption or message of others may hold escape sequences that rename the window or hide
text, marks that reverse the writing direction, brackets that rich reads as markup, or bytes that
are not UTF-8. All output of pippin goes through :func:`print_text` or
:func:`print_above_progress`, so that none of these acts in a terminal or a log.
"""

import codecs
import os
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pippin.system.output import with_line_name

BOM = "\ufeff"
MARKS = (  # longer first: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order mark -> the codec that reads and removes it."""
SAVE_AS = "save it as UTF-8"


def decode_text(content: bytes) -> str:
    """Decode bytes to text, without a byte order mark.

    Raises:
        ValueError: neither UTF-8, nor UTF-16 or UTF-32 with a byte order mark; the message begins
            with the expected encoding and gives line and byte.
    """
    codec = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    if codec.startswith("utf-8") and b"\0" in content:
        raise ValueError(
            "not UTF-8 text (it holds zero bytes, as UTF-16 without a byte order mark does); "
            f"{SAVE_AS}"
        )
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"not {codec.removesuffix('-sig').upper()} text (line {line}, byte {error.start}: "
            f"{content[error.start : error.start + 1]!r}); {SAVE_AS}"
        ) from error


def valid_unicode(text: str) -> str:
    """The text with a question mark for each lone surrogate, so that UTF-8 can encode it."""
    return text.encode("utf-8", "replace").decode("utf-8")


def read_entries(path: Path) -> list[str]:
    """Entries of a text file with one per line, stripped; empty lines are skipped.

    Only \\n and \\r\\n end a line: an entry may hold other Unicode separators. Byte order marks at
    the start of any line, as joined files have, are removed.

    Raises:
        ValueError: not text; see :func:`decode_text`.
        OSError: it cannot be read.
    """
    try:
        text = decode_text(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from error
    lines = (line.removesuffix("\r").lstrip(BOM).strip() for line in text.split("\n"))
    return [line for line in lines if line]


def argument_text(argument: str) -> str:
    """Check that a command-line argument is text.

    Raises:
        ValueError: bytes outside the locale's encoding, which Python keeps as lone surrogates.
    """
    shown = argument.encode("utf-8", "backslashreplace").decode("utf-8")
    if shown != argument:
        raise ValueError(
            f"{shown!r} on the command line is not {sys.getfilesystemencoding().upper()} text; "
            "give it in the encoding of your locale, or in a file in UTF-8"
        )
    return argument


def prefer_utf8() -> None:
    """Restart this process in Python's UTF-8 mode if file names are ASCII only.

    That is the case in the locale C with PYTHONUTF8=0, where libraries disagree whether non-ASCII
    names are text or bytes. Arguments and process id stay.
    """
    if sys.getfilesystemencoding() == "ascii" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def show_any_text() -> None:
    """Let stdout and stderr print characters outside their encoding as escape sequences.

    An unprintable name must not end a command after its work is done.
    """
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


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
    stream = sys.stderr if error else sys.stdout
    print(f"{printable(text)}\n", end="", file=stream, flush=True)  # in one write


def plain_text(text: object) -> Text:
    """Text for table cells and titles, where rich reads brackets of a string as markup."""
    return Text(printable(text))


def print_above_progress(console: Console, text: object, *, label: str = "") -> None:
    """Print a line above the progress bars of a console; see
    :func:`pippin.system.output.named_lines`.

    Args:
        console: the console with the bars.
        text: anything; brackets are not read as markup.
        label: kind of line, shown in yellow before the text.
    """
    head = f"{printable(label)} " if label else ""
    line = Text(with_line_name(f"{head}{printable(text)}"))
    if head and (start := line.plain.find(head)) >= 0:
        line.stylize("yellow", start, start + len(head))
    console.print(line, soft_wrap=True)
