# SPDX-License-Identifier: Apache-2.0
"""Several runs of a study at once, each begun when what it waits for has ended.

A run waits for its start, and a start for its own; runs that train alike follow one another, so
that the later ones take the first one's weights.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pippin.run.execute import training_fingerprint
from pippin.study.executors import GRACE, Executor, Job, LocalJob, submitted
from pippin.study.one_run import one_run, outcome_of
from pippin.study.pretraining import Start, Trouble
from pippin.study.results import Outcome, Row
from pippin.study.runs import Ended, Pending, Runs

PAUSE = 0.1
"""Seconds between two looks at running jobs."""

Alike = tuple[int, str]
"""Training seed and fingerprint of the training: what runs that train alike share."""


def at_once(
    executor: Executor, runs: Runs, pending: Sequence[Pending], progress: Callable[[str], None]
) -> Ended:
    """Make all pending runs, as many at once as the executor takes; each as it ends."""
    return _Crew(executor, runs, pending, progress).work()


class _Crew:
    """What is still to be begun, and what is running."""

    def __init__(
        self,
        executor: Executor,
        runs: Runs,
        pending: Sequence[Pending],
        progress: Callable[[str], None],
    ) -> None:
        self.executor, self.runs, self.progress = executor, runs, progress
        self.queues: dict[Alike, deque[Pending]] = {}
        for one in pending:
            alike = one.recipe.seed, training_fingerprint(one.recipe)
            self.queues.setdefault(alike, deque()).append(one)
        # Keys only: an ordered set. What a start goes on from stands before it.
        self.wanted = dict.fromkeys(start for one in pending for start in self._chain(one))
        self.starting: dict[Start, Job] = {}
        self.running: dict[Alike, Job] = {}
        self.tried: dict[Start, Trouble | None] = {}

    def work(self) -> Ended:
        """Begin and gather until no run is left; whatever happens, no job outlives this."""
        try:
            while self.queues:
                self._begin_starts()
                self._begin_runs()
                time.sleep(PAUSE)
                self._gather_starts()
                yield from self._gather_runs()
                yield from self._give_up()
        finally:
            _end([*self.starting.values(), *self.running.values()])

    def _begin_starts(self) -> None:
        for start in [*self.wanted]:
            if not self._full() and self._is_there(self.runs.starts.before(start)):
                del self.wanted[start]
                self.progress(f"{start}, which other runs start from")
                self.starting[start] = self._submitted(self.runs.starts.make, start)

    def _begin_runs(self) -> None:
        for alike, queue in self.queues.items():
            one, idle = queue[0], alike not in self.running
            if idle and not self._full() and self._is_there(self.runs.starts.of(one.recipe)):
                self.progress(one.number)
                study, folder, execute = self.runs.study, self.runs.folder, self.runs.execute
                self.running[alike] = self._submitted(
                    one_run, study, folder, one.arm, one.recipe, execute
                )

    def _gather_starts(self) -> None:
        for start in _done(self.starting):
            self.tried[start] = _trouble(self.starting.pop(start))

    def _gather_runs(self) -> Ended:
        for alike in _done(self.running):
            one = self.queues[alike].popleft()
            if not self.queues[alike]:
                del self.queues[alike]
            rows, outcome = _result(self.running.pop(alike), one)
            self.runs.record(rows, outcome)
            yield one.name, outcome

    def _give_up(self) -> Ended:
        """What goes on from a start that will never be there ends as that one did."""
        for start in [*self.wanted]:
            if trouble := self._trouble_before(self.runs.starts.before(start)):
                del self.wanted[start]
                self.tried[start] = trouble
        for alike, queue in [*self.queues.items()]:
            if trouble := self._trouble_before(self.runs.starts.of(queue[0].recipe)):
                del self.queues[alike]
                for one in queue:
                    outcome = outcome_of(one.arm, one.recipe, trouble.status, trouble.message, 0.0)
                    self.runs.record([], outcome)
                    yield one.name, outcome

    def _chain(self, one: Pending) -> Iterator[Start]:
        """All starts that a run needs, the first of all first."""
        start, chain = self.runs.starts.of(one.recipe), []
        while start is not None:
            chain.append(start)
            start = self.runs.starts.before(start)
        return reversed(chain)

    def _full(self) -> bool:
        return len(self.starting) + len(self.running) >= self.executor.jobs

    def _is_there(self, start: Start | None) -> bool:
        return start is None or (start in self.tried and self.tried[start] is None)

    def _trouble_before(self, start: Start | None) -> Trouble | None:
        trouble = self.tried.get(start) if start else None
        return trouble.of_what_follows(start) if start and trouble else None

    def _submitted(self, function: Callable[..., Any], *arguments: Any) -> Job:
        return submitted(self.executor, function, *arguments)


def _done(jobs: dict[Any, Job]) -> list[Any]:
    """The keys of those that have ended."""
    return [key for key, job in jobs.items() if job.done()]


def _trouble(job: Job) -> Trouble | None:
    """What went wrong with a start; one whose job died has failed."""
    try:
        found: Trouble | None = job.result()
    except Exception as error:  # whatever happens to one job must not cost the others
        return Trouble(status="failed", message=str(error))
    return found


def _result(job: Job, one: Pending) -> tuple[list[Row], Outcome]:
    """Of a run; one whose job died has failed."""
    try:
        rows, outcome = job.result()
    except Exception as error:  # whatever happens to one job must not cost the others
        return [], outcome_of(one.arm, one.recipe, "failed", str(error), 0.0)
    return rows, outcome


def _end(jobs: Sequence[Job]) -> None:
    """Ask all to stop before any is waited for."""
    for job in jobs:
        job.cancel()
    deadline = time.monotonic() + GRACE
    for job in jobs:
        if isinstance(job, LocalJob):
            job.end(deadline)
