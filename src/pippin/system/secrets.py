# SPDX-License-Identifier: Apache-2.0
"""Secrets of URLs: removed from everything that is printed, logged or kept.

A query may hold a signature or a token, and ``user:password@`` stands before a host. One function
removes both from any text, so that messages of libraries go through it too.
"""

import logging
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_URL = re.compile(rf"{_SCHEME}[^\s\"'<>|`]+")
_QUERY = re.compile(r"\?[^\s\"'<>?]*=[^\s\"'<>]*")
"""What follows a path of which only the last part is printed, as ``/0.tar?signature=...``."""
_AS_PATH = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]+):/(?=[^/\s]*@)")
"""The start of a URL that was made a path, which has one slash."""
_BETWEEN = re.compile(r"::(?![0-9A-Fa-f:.]*\])")
"""Stands between several places in one text; inside brackets it belongs to an IPv6 address."""
_CONTAINERS = {"abfs", "abfss", "az", "adl", "wasb", "wasbs"}
"""Schemes of which the part before ``@`` names a container."""
SHORTEST, SHORTEST_VALUE = 4, 8
"""Characters of a secret, and of one value of a query, that are looked for outside URLs."""


def split_places(text: str) -> list[str]:
    """The paths and URLs of a text that joins several by ``::``."""
    return _BETWEEN.split(text)


def is_url(place: str) -> bool:
    """Whether a text is a URL and no path."""
    return re.match(_SCHEME, place) is not None


def without_secrets(places: str) -> str:
    """URLs without query and user information; paths stay as they are.

    Args:
        places: one, or several joined by ``::``.
    """
    return "::".join(_bare(one) if is_url(one) else one for one in split_places(places))


def redact(text: object, *sources: str) -> str:
    """A text without the secrets of URLs in it.

    Args:
        text: a message, or an error whose message it is.
        sources: URLs that were given; their secrets are removed wherever they stand.
    """
    redacted = _AS_PATH.sub(r"\1://", str(text))
    secrets = {secret for source in sources for secret in _secrets(source)}
    for secret in sorted(secrets, key=len, reverse=True):
        redacted = redacted.replace(secret, "")
    return _QUERY.sub("", _URL.sub(lambda url: _shown(url[0]), redacted))


def redact_logs(*libraries: str) -> None:
    """Let what libraries log pass through :func:`redact` before any of their handlers has it."""
    for name in libraries:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_redact_record)
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_redact_record)


def _redact_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = redact(record.getMessage()), None
    record.exc_info = record.exc_text = None  # a traceback has the same URLs
    return True


def _shown(text: str) -> str:
    """URLs inside a sentence, whose punctuation stays."""
    bare = "::".join(map(_bare, re.split(rf"::(?={_SCHEME})", text)))
    ending = re.search(r"[),.;:\]]*$", text)
    return bare if ending is None or bare.endswith(ending[0]) else bare + ending[0]


def _bare(url: str) -> str:
    scheme, after = url.split("://", 1)
    _, after = _split_user(scheme, after)
    after = re.split(r"[?#]" if scheme.lower() in ("http", "https") else r"\?", after)[0]
    return f"{scheme}://{after}"


def _split_user(scheme: str, after: str) -> tuple[str, str]:
    """The user information of a URL, empty where it has none, and what follows."""
    host = re.split(r"[/?#]", after)[0]
    if "@" in host:
        user, host_name = host.rsplit("@", 1)
        is_container = scheme.lower() in _CONTAINERS and ":" not in user
        return ("", after) if is_container else (user, host_name + after[len(host) :])
    if "@" in after and re.search(r"(?<!:):(?!\d+$)[^:\]]+$", host):
        # A password with / or ? that should have been escaped: what looks like a port is none.
        user, following = after.rsplit("@", 1)
        return user, following
    return "", after


def _secrets(source: str) -> Iterator[str]:
    """Parts of URLs that are not to be shown, in the forms in which libraries write them."""
    for place in filter(is_url, split_places(source)):
        scheme, after = place.split("://", 1)
        user, after = _split_user(scheme, after)
        query = after.partition("?")[2]
        values = [pair.partition("=")[2] for pair in query.split("&")]
        parts = [user, user.partition(":")[2], query]
        for secret in (*parts, *(value for value in values if len(value) >= SHORTEST_VALUE)):
            for form in (secret, unquote(secret), quote(secret), quote_plus(secret)):
                if len(form) >= SHORTEST:
                    yield form
