# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import threading

import pytest

from pippin.system.workers.pool import map_in_threads


def test_results_come_in_order_from_as_many_threads_as_asked():
    four, threads = threading.Barrier(4), set()

    def work(number):
        four.wait()  # fewer than four threads would wait for ever
        threads.add(threading.get_ident())
        return number * number

    assert list(map_in_threads(work, range(20), 4)) == [n * n for n in range(20)]
    assert len(threads) == 4
    assert list(map_in_threads(work, [], 4)) == []


def test_an_error_is_raised_where_its_result_is_asked_for():
    found = map_in_threads(lambda x: 1 // x, [1, 0, 1], 2)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_nobody_waits_for_a_call_that_hangs():
    """Neither a stopped iteration nor the end of the program waits."""
    code = (
        "import threading; from pippin.system.workers.pool import map_in_threads\n"
        "found = map_in_threads(lambda n: threading.Event().wait() if n else n, [0, 1, 1], 2)\n"
        "print(next(found)); found.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_no_call_begins_after_a_stop():
    begun, stopped, before = [], threading.Event(), {*threading.enumerate()}

    def work(number):
        begun.append(number)
        if number:
            stopped.wait()

    found = map_in_threads(work, range(50), 1)
    next(found)
    found.close()
    stopped.set()
    for thread in {*threading.enumerate()} - before:
        thread.join()
    assert len(begun) <= 2
