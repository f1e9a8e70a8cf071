# SPDX-License-Identifier: Apache-2.0
"""Text from users, and text that is safe to print: without control characters or secrets.

Files of users are UTF-8, or UTF-16 and UTF-32 if a byte order mark declares them. Everything else
is refused: a guess could silently turn one word into another.

A file name, caption or message of others may hold escape sequences that rename the window or hide
text, marks that reverse the writing direction, brackets that rich reads as markup, or bytes that
are not UTF-8. All output of pippin goes through :func:`print_text` or
:func:`print_above_progress`, so that none of these acts in a terminal or a log.

The query of a URL may hold a signature or a token, and ``user:password@`` may precede a host. One
function removes both, and tokens of the hub, from everything that is printed, logged or stored,
messages of libraries included.
"""

import codecs
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

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


_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_URL = re.compile(rf"{_SCHEME}[^\s\"'<>|`]+")
_QUERY = re.compile(r"\?[^\s\"'<>?]*=[^\s\"'<>]*")
"""Query after a path of which only the last part is printed, as ``/0.tar?signature=...``."""
_AS_PATH = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]+):/(?=[^/\s]*@)")
"""Start of a URL that became a path, with one slash."""
_SEPARATOR = re.compile(r"::(?![0-9A-Fa-f:.]*\])")
"""Separator of several sources in one text; inside brackets it belongs to an IPv6 address."""
_CONTAINERS = {"abfs", "abfss", "az", "adl", "wasb", "wasbs"}
"""Schemes of which the part before ``@`` names a container."""
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
"""Access token of the Hugging Face hub."""
MIN_SECRET, MIN_QUERY_VALUE = 4, 8
"""Minimum lengths of a secret and of a query value that are redacted outside URLs."""


def split_sources(text: str) -> list[str]:
    """Paths and URLs of a text that joins them by ``::``."""
    return _SEPARATOR.split(text)


def is_url(source: str) -> bool:
    """Whether a source is a URL rather than a path."""
    return re.match(_SCHEME, source) is not None


def strip_url_secrets(sources: str) -> str:
    """URLs without query and user information; paths are unchanged.

    Args:
        sources: one, or several joined by ``::``.
    """
    parts = split_sources(sources)
    return "::".join(_bare(part) if is_url(part) else part for part in parts)


def redact(text: object, *sources: str) -> str:
    """Remove the secrets of URLs, and tokens of the hub, from a text.

    Args:
        text: a message or an exception.
        sources: known URLs; their secrets are removed wherever they occur.
    """
    redacted = _TOKEN.sub("", _AS_PATH.sub(r"\1://", str(text)))
    secrets = {secret for source in sources for secret in _secrets(source)}
    for secret in sorted(secrets, key=len, reverse=True):
        redacted = redacted.replace(secret, "")
    return _QUERY.sub("", _URL.sub(lambda url: _redacted_url(url[0]), redacted))


def redact_logs(*libraries: str) -> None:
    """Filter the log records of libraries through :func:`redact` before any handler."""
    for name in libraries:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_redact_record)
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_redact_record)


def _redact_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = redact(record.getMessage()), None
    record.exc_info = record.exc_text = None  # a traceback repeats the URLs
    return True


def _redacted_url(text: str) -> str:
    """URLs in a sentence without secrets; trailing punctuation stays."""
    bare = "::".join(map(_bare, re.split(rf"::(?={_SCHEME})", text)))
    ending = re.search(r"[),.;:\]]*$", text)
    return bare if ending is None or bare.endswith(ending[0]) else bare + ending[0]


def _bare(url: str) -> str:
    scheme, after = url.split("://", 1)
    _, after = _split_user(scheme, after)
    after = re.split(r"[?#]" if scheme.lower() in ("http", "https") else r"\?", after)[0]
    return f"{scheme}://{after}"


def _split_user(scheme: str, after: str) -> tuple[str, str]:
    """(user information, rest) of a URL; empty user information if it has none."""
    host = re.split(r"[/?#]", after)[0]
    if "@" in host:
        user, host_name = host.rsplit("@", 1)
        is_container = scheme.lower() in _CONTAINERS and ":" not in user
        return ("", after) if is_container else (user, host_name + after[len(host) :])
    if "@" in after and re.search(r"(?<!:):(?!\d+$)[^:\]]+$", host):
        # An unescaped / or ? in the password: the apparent port is part of it.
        user, rest = after.rsplit("@", 1)
        return user, rest
    return "", after


def _secrets(source: str) -> Iterator[str]:
    """Secret parts of URLs, in every escaping that libraries use."""
    for url in filter(is_url, split_sources(source)):
        scheme, after = url.split("://", 1)
        user, after = _split_user(scheme, after)
        query = after.partition("?")[2]
        values = [pair.partition("=")[2] for pair in query.split("&")]
        parts = [user, user.partition(":")[2], query]
        for secret in (*parts, *(value for value in values if len(value) >= MIN_QUERY_VALUE)):
            for form in (secret, unquote(secret), quote(secret), quote_plus(secret)):
                if len(form) >= MIN_SECRET:
                    yield form


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
