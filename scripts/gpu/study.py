# SPDX-License-Identifier: Apache-2.0
"""The study ``control`` for the time that is left, in a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gpu.section import Context, SectionSkippedError, Settings, Task
from gpu.training import known_device

from pippin.planning.devices import Cluster
from pippin.planning.plan import plan
from pippin.studies.results import read
from pippin.studies.shipped.scales import ScaleName
from pippin.studies.shipped.table import get_study

NAME = "control"
SLACK = 2.0
"""Planned training time of a run, times this, is expected with caches, sampling and measures."""
STOPPED = 75
"""Exit code of a study that a signal stopped."""
STOP = 60.0
"""Seconds for the checkpoint of a stopped run; then the process is killed."""


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """Finished runs after one call of ``pippin study run``."""

    study: str
    folder: str
    finished: int
    """Runs that are finished now, earlier calls included."""
    runs: int
    complete_seeds: int
    """Seeds of which every arm is finished."""
    seconds: float
    exit_code: int
    """0, or 75: stopped at the end of the time; the same call resumes it."""


def tasks(context: Context) -> Iterator[Task]:
    """One call, if a run fits into the time.

    Raises:
        SectionSkippedError: a CPU that nobody asked for, or too little time.
    """
    settings = context.settings
    if not settings.is_cuda and "study" not in settings.asked:
        raise SectionSkippedError(
            f"the study {NAME} is meant for a GPU; type --only study to run it on a CPU"
        )
    scale: ScaleName = "gpu-hour" if settings.is_xl else "demo"
    if settings.is_cuda:
        needed = minutes_of_a_run(scale, settings)
        left = context.seconds_left / 60
        if left < needed + STOP / 60:
            raise SectionSkippedError(
                f"the study {NAME} at scale {scale} needs about {needed:.0f} minutes for each of "
                f"its runs, and {max(0.0, left):.1f} are left: give a larger --minutes"
            )
    yield Task(name=f"{NAME}, {scale}", run=partial(_rows, scale, context))


def minutes_of_a_run(scale: ScaleName, settings: Settings) -> float:
    """Expected minutes of the longest run, by its plan."""
    name = known_device(settings.device)
    cluster = Cluster(devices=1) if name is None else Cluster(devices=1, device=name)
    recipes = get_study(NAME, (), scale).arms().values()
    return SLACK * 60 * max(plan(r, cluster).chosen(r.train).hours for r in recipes)


def command(scale: ScaleName, settings: Settings) -> list[str]:
    """Call of the command line."""
    folder, device = str(settings.study_folder), str(settings.device)
    program = [sys.executable, "-m", "pippin", "study", "run", NAME, "--scale", scale]
    return [*program, "--folder", folder, "--train.device", device]


def _rows(scale: ScaleName, context: Context) -> Iterator[StudyRow]:
    settings, start = context.settings, time.monotonic()
    log = context.folder / "study.log"
    code = run_for(command(scale, settings), context.seconds_left - STOP, log)
    if code not in (0, STOPPED):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise RuntimeError(f"exit code {code}: {' '.join(lines[-5:])}")
    study = get_study(NAME, (), scale)
    outcomes = read(settings.study_folder / "results.jsonl").outcomes  # of a missing file: none
    done = {(o.arm, o.seed) for o in outcomes if o.status == "finished"}
    arms = study.arms()
    yield StudyRow(
        study=study.name,
        folder=str(settings.study_folder),
        finished=len(done),
        runs=len(arms) * len(study.seeds),
        complete_seeds=sum(all((arm, seed) in done for arm in arms) for seed in study.seeds),
        seconds=time.monotonic() - start,
        exit_code=code,
    )


def run_for(words: Sequence[str], seconds: float, log: Path) -> int:
    """Exit code of a program that is asked to stop (SIGTERM) after so many seconds.

    Args:
        words: command.
        seconds: time until it is asked to stop.
        log: file for its output.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
        try:
            try:
                return process.wait(max(0.0, seconds))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
            try:
                return process.wait(STOP - 10)
            except subprocess.TimeoutExpired:
                return -signal.SIGKILL
        finally:  # also where this check itself is interrupted
            if process.poll() is None:
                process.kill()
                process.wait()
