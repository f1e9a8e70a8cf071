# SPDX-License-Identifier: Apache-2.0
"""Calls in daemon threads, which delay no exit.

A thread that waits for a slow disk or store cannot be killed. The program waits at exit for
threads of the standard library's executors, but not for these.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], threads: int
) -> Iterator[Result]:
    """Results in the order of the arguments. Stopping the iteration waits for no call.

    Args:
        function: called once per argument.
        arguments: one per call.
        threads: number of concurrent calls.

    Raises:
        BaseException: from the first call, in order, that raised one.
    """
    calls: list[tuple[Future[Result], Argument]] = [(Future(), argument) for argument in arguments]
    pending, stopped = iter(calls), threading.Event()
    lock = threading.Lock()

    def work() -> None:
        while not stopped.is_set():
            with lock:
                call = next(pending, None)
            if call is None:
                return
            result, argument = call
            try:
                result.set_result(function(argument))
            except BaseException as error:  # raised when the result is read
                result.set_exception(error)

    for _ in range(min(threads, len(calls))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for result, _ in calls:
            yield result.result()
    finally:
        stopped.set()
