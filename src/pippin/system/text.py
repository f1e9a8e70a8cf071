# SPDX-License-Identifier: Apache-2.0
"""Text that users give: files in a known encoding, lists with one entry a line, arguments.

UTF-8 is what is expected. UTF-16 and UTF-32 are read where a byte order mark says so. Everything
else is refused: a guess would turn one word into another in silence.
"""

import codecs
import os
import sys
from pathlib import Path

BOM = "\ufeff"
MARKS = (  # the longer ones first: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order mark -> the codec that reads and removes it."""
SAVE_AS = "save it as UTF-8"


def decode_text(content: bytes) -> str:
    """The text of some bytes, without a byte order mark.

    Raises:
        ValueError: neither UTF-8 nor UTF-16 or UTF-32 with a byte order mark; the message says at
            which line and byte, and begins with the encoding that was expected.
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


def read_entries(path: Path) -> list[str]:
    """The entries of a text file with one a line, stripped; empty lines are no entries.

    Only \\n and \\r\\n end a line: an entry may hold any other separator of Unicode. Byte order
    marks at the head of a line, which files that were joined have, are removed.

    Raises:
        ValueError: it is not text; see :func:`decode_text`.
        OSError: it cannot be read.
    """
    try:
        text = decode_text(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from error
    lines = (line.removesuffix("\r").lstrip(BOM).strip() for line in text.split("\n"))
    return [line for line in lines if line]


def argument_text(argument: str) -> str:
    """An argument of the command line, which must be text.

    Raises:
        ValueError: it holds bytes that are not in the locale's encoding, which Python keeps as
            lone surrogates.
    """
    shown = argument.encode("utf-8", "backslashreplace").decode("utf-8")
    if shown != argument:
        raise ValueError(
            f"{shown!r} on the command line is not {sys.getfilesystemencoding().upper()} text; "
            "give it in the encoding of your locale, or in a file in UTF-8"
        )
    return argument


def prefer_utf8() -> None:
    """Start this process again in Python's UTF-8 mode, where names of files are ASCII alone.

    That is so in the locale C with PYTHONUTF8=0. Names that are not ASCII would be text for some
    libraries and bytes for others there. The arguments and the process's number stay.
    """
    if sys.getfilesystemencoding() == "ascii" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def show_any_text() -> None:
    """Let stdout and stderr print what their encoding does not have, as an escape sequence.

    A name that the terminal cannot show must not end a command after its work was done.
    """
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
