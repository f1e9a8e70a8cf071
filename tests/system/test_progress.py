# SPDX-License-Identifier: Apache-2.0
"""Progress: a bar on a terminal, whole lines with rate and ETA elsewhere, nothing when hidden."""

import io
import re
from itertools import pairwise

import pytest
from rich.console import Console

from pippin.system.output import (
    LINES_ONLY,
    hidden_progress,
    named_lines,
    progress_hidden,
    progress_verbose,
    verbose_progress,
)
from pippin.system.progress import (
    LONGEST,
    SHORTEST,
    Progress,
    line_interval,
    print_event,
)
from pippin.system.rates import WINDOW, RateWindow, format_rate, format_seconds
from pippin.system.text import print_above_progress

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


class FakeClock:
    """Clock that moves when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Writes(io.StringIO):
    """File that keeps each write."""

    def __init__(self):
        super().__init__()
        self.parts = []

    def write(self, text):
        self.parts.append(text)
        return super().write(text)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def console():
    """Console of a file, as narrow as a file without a size may be."""
    return Console(file=Writes(), width=20)


def lines(console):
    return console.file.getvalue().splitlines()


def run(task, clock, steps, seconds=1.0, each=10):
    """Advance a task at a constant rate."""
    with task:
        for _ in range(steps):
            clock.now += seconds
            task.advance(each)


def seconds_of(text):
    hours, minutes, seconds = map(int, text.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def test_lines_have_count_rate_and_the_exact_time_that_is_left(console, clock):
    total, seen = 10_000, []
    run(Progress(console, "sampling", total=total, clock=clock), clock, 1000)
    for line in lines(console)[:-1]:
        found = re.fullmatch(
            rf"{TIME} sampling: (\d+) of 10000 images \((\d+\.\d) %\), 10 images/s, ETA (\S+)",
            line,
        )
        seen.append(int(found[1]))
        assert float(found[2]) == seen[-1] / 100
        assert seconds_of(found[3]) == (total - seen[-1]) / 10
    assert re.fullmatch(
        rf"{TIME} sampling: 10000 of 10000 images \(100\.0 %\), 10 images/s, in 0:16:40",
        lines(console)[-1],
    )
    # At once, then every 10 seconds, and less often from the tenth minute on.
    assert seen[:4] == [10, 110, 210, 310]
    assert max(b - a for a, b in pairwise(seen)) == 170
    assert "" not in lines(console)


def test_the_time_that_is_left_follows_a_new_rate(clock):
    rate = RateWindow(clock.now, 0)
    assert rate.rate is None and rate.remaining(100) is None
    done = 0
    for speed in (10, 2):
        for _ in range(WINDOW):
            clock.now, done = clock.now + 5, done + 5 * speed
            rate.add(clock.now, done)
        assert rate.rate == pytest.approx(speed)
        assert rate.remaining(done + 60) == pytest.approx(60 / speed)


def test_what_an_earlier_process_did_is_not_part_of_the_rate(console, clock):
    run(Progress(console, "training", total=100, done=50, clock=clock), clock, 1, 5.0)
    assert lines(console)[0].endswith(
        "training: 60 of 100 images (60.0 %), 2 images/s, ETA 0:00:20"
    )
    cache = Progress(console, "caching", total=100, resumes=True, clock=clock)
    with cache:
        cache.update(50)
        clock.now += 20
        cache.update(60)
    assert [line.partition(": ")[2] for line in lines(console)[1:]] == [
        "50 of 100 images (50.0 %)",
        "60 of 100 images (60.0 %), 0.5 images/s, ETA 0:01:20",
    ]


def test_the_interval_grows_within_its_bounds():
    intervals = [line_interval(elapsed) for elapsed in range(0, 20_000, 10)]
    assert intervals == sorted(intervals)
    assert intervals[0] == line_interval(600) == SHORTEST
    assert intervals[-1] == line_interval(3600) == LONGEST
    assert line_interval(1800) == 30


def test_a_brief_task_is_silent_unless_it_takes_long(console, clock):
    run(Progress(console, "a", total=90, brief=True, clock=clock), clock, 9)
    assert lines(console) == []
    run(Progress(console, "b", total=120, brief=True, clock=clock), clock, 12)
    counts = [re.search(r"b: (\d+) of", line)[1] for line in lines(console)]
    assert counts == ["100", "120"]


def test_each_report_of_a_task_of_few_units_is_a_line(console, clock):
    with Progress(console, "evaluating", total=2, unit="parts", each=True, clock=clock) as task:
        for number, part in enumerate(("held-out", "quality")):
            task.update(number, facts=lambda part=part: {"now": part})
            clock.now += 30
        task.update(2, facts=dict)
    assert [line.partition(": ")[2] for line in lines(console)] == [
        "0 of 2 parts (0.0 %), now held-out",
        "1 of 2 parts (50.0 %), 30.0 s/part, now quality, ETA 0:00:30",
        "2 of 2 parts (100.0 %), 30.0 s/part, in 0:01:00",
    ]


def test_a_task_that_fails_has_no_last_line(console, clock):
    task = Progress(console, "sampling", total=100, clock=clock)
    with pytest.raises(KeyError), task:
        task.advance(10)
        task.advance(10)
        raise KeyError
    assert len(lines(console)) == 1 and "10 of 100" in lines(console)[0]


def test_every_line_is_one_write_and_begins_with_the_name(console, clock):
    """So that lines of processes that share a file stay whole."""
    with named_lines("arm-seed0"):
        run(Progress(console, "training", total=20, clock=clock), clock, 2)
        print_event(console, "checkpoint written: runs/[first]/checkpoints/64")
        print_above_progress(console, "two\nlines", label="note:")
    print_above_progress(console, "after")
    written = "".join(console.file.parts)
    assert written.endswith("\n") and written == console.file.getvalue()
    parts = [part for part in console.file.parts if part]
    assert len(parts) == 5 and all(part.endswith("\n") for part in parts)
    own = lines(console)[:-1]
    assert all(line.startswith("[arm-seed0] ") for line in own) and len(own) == 5
    assert re.fullmatch(rf"\[arm-seed0\] {TIME} checkpoint written: \S+\[first\]\S+", own[2])
    assert own[3:] == ["[arm-seed0] note: two", "[arm-seed0] lines"]
    assert lines(console)[-1] == "after"


def test_hidden_progress_prints_nothing(console, clock):
    with hidden_progress():
        assert progress_hidden()
        run(Progress(console, "training", total=20, clock=clock), clock, 2)
        print_event(console, "checkpoint written")
    run(Progress(console, "training", total=20, shown=False, clock=clock), clock, 2)
    assert console.file.getvalue() == "" and not progress_hidden()
    quiet = Console(file=io.StringIO(), quiet=True)  # as of ranks other than 0
    run(Progress(quiet, "training", total=20, clock=clock), clock, 2)
    assert quiet.file.getvalue() == ""


def test_a_log_file_without_room_ends_no_run(clock):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    console = Console(file=Full())
    task = Progress(console, "training", total=20, clock=clock)
    run(task, clock, 2)
    print_event(console, "checkpoint written")
    assert task.done == 20


def terminal():
    return Console(file=io.StringIO(), width=120, force_terminal=True, force_interactive=True)


def test_a_terminal_shows_a_bar_and_events_only_when_asked(clock):
    shown = terminal()
    task = Progress(shown, "training", total=20, clock=clock)
    with task:
        task.update(10, facts=lambda: {"loss": "0.5"})
        print_event(shown, "checkpoint written")
        assert task.is_bar
    text = shown.file.getvalue()
    assert "training" in text and "10/20 images" in text and "loss 0.5" in text
    assert "checkpoint" not in text and not re.search(TIME, text)
    with verbose_progress():
        assert progress_verbose()
        print_event(shown, "checkpoint written")
    assert "checkpoint written" in shown.file.getvalue() and not progress_verbose()


def test_a_bar_has_a_rate_and_stays_at_the_end_unless_it_is_brief():
    texts = {}
    for brief in (False, True):
        shown = terminal()
        with Progress(shown, "sampling", total=3, brief=brief) as task:
            for _ in range(3):
                task.advance()
        texts[brief] = shown.file.getvalue()
    assert re.search(r"3/3 images +[\d.]+ images/s", texts[False])
    assert not texts[False].endswith("\x1b[2K") and texts[True].endswith("\x1b[2K")


def test_a_terminal_of_several_processes_gets_lines(clock, monkeypatch):
    monkeypatch.setenv(LINES_ONLY, "1")
    shown = terminal()
    run(Progress(shown, "training", total=20, clock=clock), clock, 2)
    assert [re.search(r"\d+ of 20", line)[0] for line in lines(shown)] == ["10 of 20", "20 of 20"]


def test_a_task_around_others_shows_no_bar():
    shown = terminal()
    with Progress(shown, "evaluating", total=2, unit="parts", bar=False) as task:
        task.advance()
    assert shown.file.getvalue() == "" and not task.is_bar


def test_rates_and_times_are_readable():
    assert [format_rate(rate, "images") for rate in (812.4, 12.34, 0.5, 0.08)] == [
        "812 images/s",
        "12.3 images/s",
        "0.5 images/s",
        "12.5 s/image",
    ]
    assert [format_seconds(s) for s in (0.4, 59.6, 3661, 200_000)] == [
        "0:00:00",
        "0:01:00",
        "1:01:01",
        "55:33:20",
    ]
