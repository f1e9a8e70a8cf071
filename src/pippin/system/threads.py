# SPDX-License-Identifier: Apache-2.0
"""Calls in threads that nobody has to wait for.

A thread that waits for a slow disk or store cannot be ended. Those of the standard library's
executors are waited for when the program ends, these are not.
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
    """Results in the order of the arguments. Whoever stops iterating waits for no call.

    Args:
        function: what is called.
        arguments: of one call each.
        threads: calls at the same time.

    Raises:
        BaseException: of the first call, in order, that raised one.
    """
    calls: list[tuple[Future[Result], Argument]] = [(Future(), one) for one in arguments]
    waiting, stopped = iter(calls), threading.Event()
    taking = threading.Lock()

    def work() -> None:
        while not stopped.is_set():
            with taking:
                call = next(waiting, None)
            if call is None:
                return
            result, argument = call
            try:
                result.set_result(function(argument))
            except BaseException as error:  # raised where the result is asked for
                result.set_exception(error)

    for _ in range(min(threads, len(calls))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for result, _ in calls:
            yield result.result()
    finally:
        stopped.set()
