# SPDX-License-Identifier: Apache-2.0
"""A process whose main thread is stuck in native code exits on a signal."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pippin.system.signals import StopRequest, exit_when_stuck, signals_interrupt

STUCK = """
import ctypes, os, sys, threading
from pippin.system.signals import signals_interrupt
from pippin.system.signals import exit_when_stuck
mutex = ctypes.create_string_buffer(64)  # zeros: a mutex that nobody holds
lock = ctypes.CDLL(None).pthread_mutex_lock
with signals_interrupt(), exit_when_stuck(lambda: os._exit(75), timeout=0.3):
    lock(mutex)
    threading.Timer(0.5, lambda: print("stuck", flush=True)).start()
    lock(mutex)  # for ever, whatever signal comes
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="zeros are a mutex on Linux")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_it_is_left(number):
    code = f"import signal; signal.signal(2, signal.default_int_handler){STUCK}"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "stuck\n"
        process.send_signal(number)
        assert process.wait(20) == 75
    finally:
        process.kill()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_handler_that_is_run_in_time_does_its_work(number):
    left = []
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    with (
        pytest.raises(KeyboardInterrupt),
        signals_interrupt(),
        exit_when_stuck(lambda: left.append(1), timeout=0.1),
    ):
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            time.sleep(0.3)  # a way out that takes longer than the timeout
    assert left == []
    assert {one: signal.getsignal(one) for one in before} == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_training_loop_may_have_long_steps():
    left = []
    with exit_when_stuck(lambda: left.append(1), timeout=0.1), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
    assert stop.signal == signal.SIGTERM and left == []


def test_outside_the_main_thread_it_does_nothing():
    done = []

    def work():
        with exit_when_stuck(lambda: None):
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGTERM)]
