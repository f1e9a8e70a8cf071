# SPDX-License-Identifier: Apache-2.0
"""Concurrent runs give the same results as sequential runs, whatever happens to a process."""

import os
import signal
import subprocess
import time
from dataclasses import replace

import fake_runs
import pytest
from forked_python import FORK, run_code
from waiting import wait_for

from pippin.config import ConfigError
from pippin.studies.executors import LocalExecutor
from pippin.studies.results import read
from pippin.studies.runner import run_study
from pippin.studies.study import Axis, Study
from pippin.system.lock import FolderBusyError, folder_lock
from pippin.training.config import InitConfig


def quiet(text: str) -> None:
    pass


@pytest.fixture
def forked(monkeypatch):
    """Jobs are forks of this process, which has imported torch, instead of forks of a server."""
    monkeypatch.setattr("pippin.studies.executors.multiprocessing.get_context", lambda _: FORK)


def values(folder):
    rows = read(folder / "results.jsonl").rows
    return {(row.arm, row.seed): (row.value, row.comparable) for row in rows}


def test_a_process_that_dies_costs_its_own_run_only(study, tmp_path, forked):
    study = replace(study, seeds=(0, 1, 2))
    said = []
    summary = run_study(study, tmp_path, fake_runs.execute, said.append, executor=LocalExecutor(3))
    assert summary.statuses == {
        "entangled-seed0": "finished",
        "disentangled-seed0": "finished",
        "entangled-seed1": "failed",
        "disentangled-seed1": "failed",
        "entangled-seed2": "finished",
        "disentangled-seed2": "finished",
    }
    failures = "\n".join(text for text in said if "failed" in text)
    assert "exit code -9 (killed: out of memory?)" in failures and "disk on fire" in failures
    alone = tmp_path / "alone"
    run_study(replace(study, seeds=(0, 2)), alone, fake_runs.execute, quiet)
    assert values(tmp_path) == values(alone)


def test_runs_that_train_alike_follow_one_another_after_their_start(study, tmp_path, forked):
    sampling = Axis(levels={f"s{n}": {"sampling.steps": n} for n in (4, 5)})
    base = replace(study.base, init=InitConfig(run="@low"))
    study = replace(
        study,
        base=base,
        axes={"sampling": sampling},
        combinations=None,
        starts={"low": replace(base, init=InitConfig())},
        seeds=(0, 2),
    )
    summary = run_study(
        study, tmp_path, fake_runs.execute, quiet, fake_runs.pretrain, LocalExecutor(4)
    )
    assert set(summary.statuses.values()) == {"finished"}
    for seed in (0, 2):
        times = [
            [float((tmp_path / f"runs/s{n}-seed{seed}" / at).read_text()) for n in (4, 5)]
            for at in ("began", "ended")
        ]
        assert max(times[0]) >= min(times[1])  # the second began when the first had ended
        assert (tmp_path / f"starts/low-seed{seed}/done").exists()


@pytest.mark.parametrize("executor", [None, LocalExecutor(4)])
def test_trouble_of_a_start_is_that_of_the_runs_that_go_on_from_it(
    base, tmp_path, executor, forked
):
    """In either way of running; each start is tried once, whatever number of arms needs it."""
    runs = ("@good", "@broken", "@after-broken", "@wild", "@after-wild", None)
    levels = {str(run).strip("@"): {"init.run": run} for run in runs}
    starts = dict.fromkeys(("good", "broken", "wild"), base)
    for name in ("broken", "wild"):
        starts[f"after-{name}"] = replace(base, init=InitConfig(run=f"@{name}"))
    study = Study(
        name="starts",
        title="",
        question="",
        base=base,
        axes={
            "start": Axis(levels=levels),
            "rate": Axis(levels={f"rate{n}": {"train.learning_rate": n} for n in (0.1, 0.2)}),
        },
        starts=starts,
        seeds=(0,),
        primary="drift",
    )
    summary = run_study(
        study, tmp_path, fake_runs.execute, quiet, fake_runs.pretrain_some, executor
    )
    wanted = {"good": "finished", "None": "finished", "broken": "failed", "wild": "diverged"}
    wanted |= {"after-broken": "failed", "after-wild": "diverged"}
    assert {name.split("-rate")[0] for name in summary.statuses} == set(wanted)
    for name, status in summary.statuses.items():
        assert status == wanted[name.split("-rate")[0]], name
    attempts = (tmp_path / "starts" / "attempts").read_text().split()
    assert sorted(attempts) == ["broken-seed0", "good-seed0", "wild-seed0"]
    message = read(tmp_path / "results.jsonl").latest("after-wild-rate0.1", 0).message
    assert "@after-wild of seed 0, which it starts from, diverged: @wild of seed 0" in message
    assert message.endswith("diverged: 10 bad steps")


def test_a_job_takes_a_slot_that_no_running_job_holds(forked):
    """While the first of two jobs still runs, the third job gets the slot of the second."""
    executor = LocalExecutor(2)
    long, short = executor.submit(time.sleep, 60), executor.submit(time.sleep, 0)
    try:
        wait_for(short.done)
        last = executor.submit(time.sleep, 0)
        assert (long.slot, short.slot, last.slot) == (0, 1, 1)
    finally:
        long.cancel()
        long.end(time.monotonic() + 60)


def test_a_run_ends_with_a_study_that_is_killed(tmp_path, forked):
    """Else it would train on, and hold its folder's lock when the study is run again."""
    receiver, sender = FORK.Pipe(duplex=False)

    def study():
        job = LocalExecutor(1).submit(fake_runs.lock_and_wait, tmp_path)
        wait_for((tmp_path / "locked").exists)
        sender.send(job._process.pid)
        time.sleep(3600)

    parent = FORK.Process(target=study)
    parent.start()
    try:
        assert receiver.poll(600)
        job = receiver.recv()
        with pytest.raises(FolderBusyError), folder_lock(tmp_path):
            pass
    finally:
        parent.kill()
        parent.join()
    wait_for(lambda: is_free(tmp_path))
    wait_for(lambda: not is_alive(job))


PROGRAM = """
import os, sys
from multiprocessing import forkserver
forkserver._forkserver.__init__()  # that of the tests would not end with this program
if program := os.fork():
    print(program, flush=True)
else:
    os.setsid()
    sys.path.insert(0, sys.argv[1])
    import fake_runs
    fake_runs.run_two_for_ever(sys.argv[2])
"""


def test_no_process_outlives_a_program_with_a_study(tmp_path):
    """A signal to its process group lets the runs save. SIGKILL of the program ends all else:
    runs, their data workers, and the fork server between them and the program."""
    here = os.path.dirname(fake_runs.__file__)
    done = run_code(PROGRAM, tmp_path, here, str(tmp_path))
    program = int(done.stdout.splitlines()[0])
    try:
        wait_for(lambda: len([*tmp_path.glob("runs/*/waiting")]) == 2, seconds=600)
        processes = descendants(program)
        assert len(processes) >= 5  # fork server, two runs, two data workers
        os.killpg(program, signal.SIGTERM)
        wait_for(lambda: len([*tmp_path.glob("runs/*/stopped")]) == 2, seconds=600)
        assert set(descendants(program)) >= set(processes[-4:])
    finally:
        os.kill(program, signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, [program, *processes])), seconds=600)


def descendants(pid):
    """Process ids of all children of a process, and of theirs, generation by generation."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    found = [pid]
    for one in found:
        found += [child for child, parent in pairs if parent == one]
    return found[1:]


def is_alive(pid):
    """A zombie is not."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout.strip()[:1] not in ("", "Z")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_stops_a_study_of_a_program(study, tmp_path, number):
    def execute(recipe, folder):
        signal.raise_signal(number)
        raise AssertionError("not reached")

    summary = run_study(study, tmp_path, execute, quiet)
    assert summary.interrupted and not summary.statuses
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_a_program_handles_is_its_own(study, tmp_path, monkeypatch):
    handled = []
    before = signal.signal(signal.SIGTERM, lambda *_: handled.append(True))
    try:
        summary = run_study(
            replace(study, seeds=(0,)),
            tmp_path,
            lambda recipe, folder: signal.raise_signal(signal.SIGTERM) or [],
            quiet,
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert handled == [True, True] and not summary.interrupted


def is_free(folder):
    try:
        with folder_lock(folder):
            return True
    except FolderBusyError:
        return False


def test_a_stop_cancels_what_runs(study, tmp_path, monkeypatch):
    cancelled = []

    class Stuck:
        jobs = 2

        def submit(self, function, *arguments):
            return self

        def done(self):
            raise KeyboardInterrupt

        def result(self):
            raise AssertionError

        def cancel(self):
            cancelled.append(self)

    summary = run_study(study, tmp_path, fake_runs.execute, quiet, executor=Stuck())
    assert summary.interrupted and len(cancelled) == 2
    assert read(tmp_path / "results.jsonl").outcomes == ()


def test_a_run_that_no_job_can_be_had_for_costs_itself_only(study, tmp_path, forked):
    class Choosy(LocalExecutor):
        def submit(self, function, *arguments):
            if self._slots and not refused:
                refused.append(arguments)
                raise OSError("queue full")
            return super().submit(function, *arguments)

    refused, said = [], []
    study = replace(study, seeds=(0, 2))
    summary = run_study(study, tmp_path, fake_runs.execute, said.append, executor=Choosy(2))
    assert sorted(summary.statuses.values()) == ["failed", *["finished"] * 3]
    assert any("could not be started: OSError: queue full" in text for text in said)
    again = run_study(study, tmp_path, fake_runs.execute, quiet, executor=Choosy(2))
    assert sorted(again.statuses.values()) == ["finished", *["skipped"] * 3]


def test_no_jobs_are_refused():
    with pytest.raises(ConfigError, match="--jobs must be 1 or more; got 0"):
        LocalExecutor(0)
