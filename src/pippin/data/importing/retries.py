# SPDX-License-Identifier: Apache-2.0
"""Retries of requests to stores after faults that pass: a lost connection, a busy server."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

RETRIES = 5
"""Maximum number of retries, with delays of 1, 2, 4, ... seconds."""
TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504}
"""Statuses of HTTP responses that may change when the request is repeated."""

T = TypeVar("T")


class ShortReadError(ConnectionError):
    """File that arrived with another size than its store states."""


def is_busy(error: BaseException) -> bool:
    """True if an error, or one that caused it, is a response of a busy server."""
    return any(getattr(cause, "status", None) in TRANSIENT_STATUSES for cause in _causes(error))


def is_transient(error: BaseException) -> bool:
    """True if an error, or one that caused it, may not occur again."""
    lost = any(isinstance(cause, _connection_errors()) for cause in _causes(error))
    return lost or is_busy(error)


def with_retries(
    call: Callable[[], T], is_retried: Callable[[BaseException], bool] = is_transient
) -> T:
    """Result of a call, repeated after some errors.

    Args:
        call: a request.
        is_retried: whether an error may not occur again.

    Raises:
        Exception: the call's own; a transient one after the last retry.
    """
    for attempt in range(RETRIES):
        try:
            return call()
        except Exception as error:  # the type depends on the store
            if getattr(error, "was_retried", False) or not is_retried(error):
                raise
        time.sleep(2**attempt)
    try:
        return call()
    except Exception as error:
        error.was_retried = True  # type: ignore[attr-defined]  # an outer call gives up at once
        raise


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that caused it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _connection_errors() -> tuple[type[Exception], ...]:
    """Errors of lost connections."""
    try:
        from aiohttp import ClientConnectionError, ClientPayloadError
    except ImportError:
        return (ConnectionError, TimeoutError)
    return (ConnectionError, TimeoutError, ClientConnectionError, ClientPayloadError)
