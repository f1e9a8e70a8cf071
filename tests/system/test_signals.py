# SPDX-License-Identifier: Apache-2.0
"""Stop requests by signals, and signals that act at once."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from pippin.system.signals import SAME_ORDER, STOPS, StopRequest, in_main_thread, signals_interrupt


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr("pippin.system.signals.time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("again", STOPS)
@pytest.mark.parametrize("first", STOPS)
def test_an_order_that_is_handed_on_is_one_order(clock, first, again):
    """As when a cluster signals all processes of a job, and torchrun signals its ranks again."""
    with StopRequest() as stop:
        signal.raise_signal(first)
        clock[0] += SAME_ORDER[again]
        signal.raise_signal(again)
        signal.raise_signal(again)
        assert stop.signal == first
        clock[0] += 0.1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(again)


def test_a_second_ctrl_c_soon_acts_at_once(clock):
    with StopRequest():
        signal.raise_signal(signal.SIGTERM)
        clock[0] += 1.5
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_no_handler_is_installed_and_nothing_raised():
    before = [signal.getsignal(number) for number in STOPS]

    def work():
        with signals_interrupt(), StopRequest() as stop:
            return in_main_thread(), stop.signal, [signal.getsignal(n) for n in STOPS]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == (False, None, before)
    assert in_main_thread()
    assert [signal.getsignal(number) for number in STOPS] == before
