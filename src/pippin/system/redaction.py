# SPDX-License-Identifier: Apache-2.0
"""URLs and their secrets, which are removed from everything that is printed, logged or stored.

The query of a URL may hold a signature or a token, and ``user:password@`` may precede a host. One
function removes both, and tokens of the hub, messages of libraries included.
"""

import logging
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

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
