# SPDX-License-Identifier: Apache-2.0
"""Runs of every arm of a study on every seed; a stopped study can be resumed.

A study must measure the metrics that it declares. What
:func:`pippin.studies.execution.execute` measures follows from the declarations of the metrics and
from each arm's evaluation, so other metrics are refused before anything is trained. A custom
execution may measure anything: there, each finished run reports missing metrics.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pippin.config import ConfigError
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.metric import OTHER, Metric
from pippin.evaluation.metric_parameters import network_of
from pippin.evaluation.metric_registry import find_metric, near_names
from pippin.plugins import load_plugins
from pippin.studies.execution import Execute, execute, execute_run
from pippin.studies.executors import Executor
from pippin.studies.pretraining import (
    PendingRun,
    Pretrain,
    RunContext,
    RunOutcomes,
    StudyStarts,
    WithPretraining,
    pending_runs,
)
from pippin.studies.results import Results, read, repair
from pippin.studies.scheduler import run_concurrently
from pippin.studies.study import Study
from pippin.studies.study_folder import declare, run_name
from pippin.system.display import html_table, markdown_table
from pippin.system.files import make_folder, remove_temporary_files
from pippin.system.lock import folder_lock
from pippin.system.progress import Clock
from pippin.system.rates import RateWindow, progress_text
from pippin.system.signals import TrainingStoppedError, signals_interrupt


def refuse_unmeasured(study: Study, execution: Execute) -> None:
    """Refuse a declared metric that pippin's own evaluation does not measure in any arm.

    Raises:
        ConfigError: the message names the metric, and similar names or the setting to change; or
            a plugin that cannot be imported.
    """
    if execution is not execute:
        return
    load_plugins()  # every run measures their metrics, so a broken one stops the study here
    evaluations = {arm: recipe.evaluation for arm, recipe in study.arms().items()}
    for name in study.declared_metrics:
        metric = find_metric(name)
        if metric.kind is OTHER or not _is_known(metric):
            raise ConfigError(_unknown(study, name))
        reasons = {arm: next(obstacles(metric, own), "") for arm, own in evaluations.items()}
        if all(reasons.values()):
            raise ConfigError(
                f"study {study.name!r} declares {name!r}, which no run measures: "
                + "; ".join(dict.fromkeys(reasons.values()))
            )


def obstacles(metric: Metric, evaluation: EvaluationConfig) -> Iterator[str]:
    """Reasons why the evaluation of a run does not measure a metric, each with its setting."""
    kind = metric.kind
    if kind.command:
        yield f"only `{kind.command}` measures it"
    if kind.part is not None and kind.part not in evaluation.parts:
        yield f"evaluation.parts lacks {kind.part}"
    if metric.features and network_of(metric.features) != evaluation.features:
        yield f"evaluation.features is {evaluation.features}"
    for setting in kind.needs:
        if not getattr(evaluation, setting):
            yield f"evaluation.{setting} is not set"
    for name, value in metric.values:
        setting = kind.placeholders[name].setting(value)
        listed = getattr(evaluation, setting) if setting else ()
        wanted = value.value if setting and name == "position" else value
        if setting and wanted not in listed:
            yield f"evaluation.{setting} lacks {metric.value_text(name)}"


def _is_known(metric: Metric) -> bool:
    """True unless the metric names a control that no probe and no profile knows."""
    controls = metric.kind.placeholders.get("control")
    inner = metric.of is None or _is_known(metric.of)
    return inner and (controls is None or metric.control in controls.examples)


def _unknown(study: Study, name: str) -> str:
    near = near_names(name)
    return (
        f"study {study.name!r} declares {name!r}, which no run measures"
        + (f" (did you mean {' or '.join(near)}?)" if near else "")
        + "; docs/reference/metrics.md lists the metrics; a custom execution may measure others"
    )


def unmeasured(study: Study, run: str, results: Results) -> str:
    """Message about declared metrics that a finished run lacks; empty if it lacks none."""
    measured = {row.metric for row in results.rows if run_name(row.arm, row.seed) == run}
    absent = [name for name in study.declared_metrics if name not in measured]
    if not absent:
        return ""
    return f"{run} measured no {', '.join(absent)}, which the study declares: see its evaluation"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The result of one call of :func:`run_study`."""

    statuses: dict[str, str]
    """Run's folder name -> "finished", "diverged", "failed", or "skipped" if an earlier call had
    finished it."""
    interrupted: bool

    @property
    def _rows(self) -> list[list[str]]:
        rows = [[name, status] for name, status in self.statuses.items()]
        return [*rows, ["stopped", "the same call resumes it"]] if self.interrupted else rows

    def _repr_html_(self) -> str:
        """Table of the runs for a notebook."""
        return html_table(("run", "status"), self._rows)

    def _repr_markdown_(self) -> str:
        """The same where Markdown is shown."""
        return markdown_table(("run", "status"), self._rows)


def run_study(
    study: Study,
    folder: Path,
    execute: Execute,
    progress: Callable[[str], None],
    pretrain: Pretrain | None = None,
    executor: Executor | None = None,
) -> Summary:
    """Run the unfinished runs of a study, seed by seed, so that pairs complete together.

    A run that raises is recorded as failed with its message, and the other runs go on; the next
    call runs it again. A run that diverges, or whose start diverges, is a result and is not run
    again. Ctrl-C stops the study, as do SIGTERM and SIGUSR2 unless the program handles them; runs
    of other processes write a checkpoint first. The next call resumes it.

    Args:
        study: the study.
        folder: the study's folder.
        execute: trains and evaluates one run.
        progress: called with each message.
        pretrain: trains a start; required by studies with starts only.
        executor: runs several runs concurrently; those with the same training still run one after
            the other. None = one run at a time in this process.

    Raises:
        ConfigError: the study is not a fair comparison, it has starts but ``pretrain`` is None,
            the folder holds another study, or another process uses it.
    """
    study.check()
    refuse_unmeasured(study, execute)
    if study.starts and pretrain is None:
        raise ConfigError(f"study {study.name!r} has starts (pre-training runs): give pretrain")
    make_folder(folder)
    with folder_lock(folder), signals_interrupt(keep_handlers=True):
        remove_temporary_files(folder)
        declare(study, folder)
        note = repair(folder / "results.jsonl")
        before = read(folder / "results.jsonl")
        for line in [*([note] if note else []), *before.problems]:
            progress(line)
        starts = StudyStarts(study, folder, pretrain)
        runs = RunContext(study=study, folder=folder, execute=execute, starts=starts)
        pending, statuses = pending_runs(study, before)
        counted = _RunCount(len(statuses), len(statuses) + len(pending))
        run_all = _run_sequentially if executor is None else partial(run_concurrently, executor)
        interrupted = False
        try:
            for name, outcome in run_all(runs, pending, progress):
                statuses[name] = outcome.status
                if outcome.message:
                    progress(f"{name} {outcome.status}: {outcome.message}; the other runs go on")
                if outcome.status == "finished":
                    absent = unmeasured(study, name, read(folder / "results.jsonl"))
                    if absent:
                        progress(absent)
                progress(counted.one_more())
        except (KeyboardInterrupt, TrainingStoppedError):
            progress("stopped; finished runs are kept")
            interrupted = True
        return Summary(statuses=statuses, interrupted=interrupted)


class _RunCount:
    """Count of the runs that have ended, with the remaining time.

    Args:
        done: runs that earlier calls finished.
        total: all runs.
        clock: monotonic clock.
    """

    def __init__(self, done: int, total: int, clock: Clock = time.monotonic) -> None:
        self.done, self.total, self.clock = done, total, clock
        self.started = clock()
        self.rate = RateWindow(self.started, done)

    def one_more(self) -> str:
        """Message after one more run has ended."""
        self.done += 1
        now = self.clock()
        self.rate.add(now, self.done)
        took = now - self.started
        return f"study: {progress_text(self.done, self.total, 'runs', self.rate, took, {})}"


def _run_sequentially(
    runs: RunContext, pending: Sequence[PendingRun], progress: Callable[[str], None]
) -> RunOutcomes:
    """Run one run after the other in this process; the time of a start counts for the first run
    that requires it."""
    execute = WithPretraining(runs.starts, runs.execute)
    for run in pending:
        progress(run.number)
        rows, outcome = execute_run(runs.study, runs.folder, run.arm, run.recipe, execute)
        runs.record(rows, outcome)
        yield run.name, outcome
