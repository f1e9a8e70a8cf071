# SPDX-License-Identifier: Apache-2.0
"""Text from users: files in a known encoding, lists with one entry per line, arguments.

UTF-8 is expected. UTF-16 and UTF-32 are read if a byte order mark declares them. Everything else
is refused: a guess could silently turn one word into another.
"""

import codecs
import os
import sys
from pathlib import Path

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
