# SPDX-License-Identifier: Apache-2.0
"""Run several runs of a study concurrently, each after the runs that it depends on.

A run waits for its start, and a start for its parent. Runs with the same training run one after
the other, so that later ones share the weights of the first.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pippin.studies.execution import execute_run, make_outcome, training_fingerprint
from pippin.studies.executors import GRACE, Executor, Job, LocalJob, submit_or_refuse
from pippin.studies.pretraining import Failure, PendingRun, RunContext, RunOutcomes, Start
from pippin.studies.results import Outcome, Row

POLL_INTERVAL = 0.1
"""Seconds between two polls of the running jobs."""

TrainingGroup = tuple[int, str]
"""Training seed and fingerprint of the training, which runs with shared weights have in common."""


def run_concurrently(
    executor: Executor,
    runs: RunContext,
    pending: Sequence[PendingRun],
    progress: Callable[[str], None],
) -> RunOutcomes:
    """Run all pending runs, at most ``executor.jobs`` at a time; yields outcomes as runs end."""
    return _Scheduler(executor, runs, pending, progress).run()


class _Scheduler:
    """Queues of pending runs and starts, and the running jobs."""

    def __init__(
        self,
        executor: Executor,
        runs: RunContext,
        pending: Sequence[PendingRun],
        progress: Callable[[str], None],
    ) -> None:
        self.executor, self.runs, self.progress = executor, runs, progress
        self.queues: dict[TrainingGroup, deque[PendingRun]] = {}
        for run in pending:
            group = run.recipe.seed, training_fingerprint(run.recipe)
            self.queues.setdefault(group, deque()).append(run)
        # Keys only: an ordered set. The parent of a start comes before it.
        self.pending_starts = dict.fromkeys(start for run in pending for start in self._chain(run))
        self.starting: dict[Start, Job] = {}
        self.running: dict[TrainingGroup, Job] = {}
        self.start_failures: dict[Start, Failure | None] = {}

    def run(self) -> RunOutcomes:
        """Submit and collect jobs until no run is left; no job outlives this call."""
        try:
            while self.queues:
                self._submit_starts()
                self._submit_runs()
                time.sleep(POLL_INTERVAL)
                self._collect_starts()
                yield from self._collect_runs()
                yield from self._fail_blocked()
        finally:
            _stop_all([*self.starting.values(), *self.running.values()])

    def _submit_starts(self) -> None:
        for start in [*self.pending_starts]:
            if not self._is_full() and self._is_ready(self.runs.starts.parent_of(start)):
                del self.pending_starts[start]
                self.progress(f"{start}, which other runs start from")
                self.starting[start] = self._submit(self.runs.starts.train, start)

    def _submit_runs(self) -> None:
        for group, queue in self.queues.items():
            run, idle = queue[0], group not in self.running
            if (
                idle
                and not self._is_full()
                and self._is_ready(self.runs.starts.required_by(run.recipe))
            ):
                self.progress(run.number)
                study, folder, execute = self.runs.study, self.runs.folder, self.runs.execute
                self.running[group] = self._submit(
                    execute_run, study, folder, run.arm, run.recipe, execute
                )

    def _collect_starts(self) -> None:
        for start in _finished_keys(self.starting):
            self.start_failures[start] = _start_failure(self.starting.pop(start))

    def _collect_runs(self) -> RunOutcomes:
        for group in _finished_keys(self.running):
            run = self.queues[group].popleft()
            if not self.queues[group]:
                del self.queues[group]
            rows, outcome = _result(self.running.pop(group), run)
            self.runs.record(rows, outcome)
            yield run.name, outcome

    def _fail_blocked(self) -> RunOutcomes:
        """Give runs and starts that depend on a failed start its status."""
        for start in [*self.pending_starts]:
            if failure := self._upstream_failure(self.runs.starts.parent_of(start)):
                del self.pending_starts[start]
                self.start_failures[start] = failure
        for group, queue in [*self.queues.items()]:
            if failure := self._upstream_failure(self.runs.starts.required_by(queue[0].recipe)):
                del self.queues[group]
                for run in queue:
                    outcome = make_outcome(
                        run.arm, run.recipe, failure.status, failure.message, 0.0
                    )
                    self.runs.record([], outcome)
                    yield run.name, outcome

    def _chain(self, run: PendingRun) -> Iterator[Start]:
        """All starts that a run depends on, ancestors first."""
        start, chain = self.runs.starts.required_by(run.recipe), []
        while start is not None:
            chain.append(start)
            start = self.runs.starts.parent_of(start)
        return reversed(chain)

    def _is_full(self) -> bool:
        return len(self.starting) + len(self.running) >= self.executor.jobs

    def _is_ready(self, start: Start | None) -> bool:
        return start is None or (
            start in self.start_failures and self.start_failures[start] is None
        )

    def _upstream_failure(self, start: Start | None) -> Failure | None:
        failure = self.start_failures.get(start) if start else None
        return failure.propagate(start) if start and failure else None

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        return submit_or_refuse(self.executor, function, *arguments)


def _finished_keys(jobs: dict[Any, Job]) -> list[Any]:
    """The keys of the jobs that have ended."""
    return [key for key, job in jobs.items() if job.done()]


def _start_failure(job: Job) -> Failure | None:
    """The failure of a start, also where its job died; None = it is finished."""
    try:
        failure: Failure | None = job.result()
    except Exception as error:  # whatever happens to one job must not cost the others
        return Failure(status="failed", message=str(error))
    return failure


def _result(job: Job, run: PendingRun) -> tuple[list[Row], Outcome]:
    """Rows and outcome of a run; a run whose job died has failed."""
    try:
        rows, outcome = job.result()
    except Exception as error:  # whatever happens to one job must not cost the others
        return [], make_outcome(run.arm, run.recipe, "failed", str(error), 0.0)
    return rows, outcome


def _stop_all(jobs: Sequence[Job]) -> None:
    """Cancel all jobs, then wait for local ones."""
    for job in jobs:
        job.cancel()
    deadline = time.monotonic() + GRACE
    for job in jobs:
        if isinstance(job, LocalJob):
            job.end(deadline)
