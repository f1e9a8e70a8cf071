# SPDX-License-Identifier: Apache-2.0
"""Concurrent runs give the same results as sequential runs, whatever happens to a process."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path

import fake_runs
import pytest
import torch
from safetensors.torch import load_file

from pippin import plugins
from pippin.cli.parsing.options import parse
from pippin.cli.study import StudyCommand
from pippin.config import ConfigError
from pippin.plugins import WorkerModules
from pippin.runs.checkpoint import newest_intact_checkpoint
from pippin.studies.executors import LocalExecutor
from pippin.studies.results import read
from pippin.studies.runner import run_study
from pippin.studies.slurm import Resumable, SlurmConfig, SlurmExecutor
from pippin.studies.study import Axis, Study
from pippin.system.lock import FolderBusyError, folder_lock
from pippin.system.offline import LIBRARY_SWITCHES, SWITCH, offline_mode
from pippin.system.text import hidden_progress
from pippin.training.config import InitConfig


def quiet(text: str) -> None:
    pass


def values(folder):
    rows = read(folder / "results.jsonl").rows
    return {(row.arm, row.seed): (row.value, row.comparable) for row in rows}


def test_a_process_that_dies_costs_its_own_run_only(study, tmp_path):
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


def test_runs_that_train_alike_follow_one_another_after_their_start(study, tmp_path):
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
def test_trouble_of_a_start_is_that_of_the_runs_that_go_on_from_it(base, tmp_path, executor):
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


def test_a_job_takes_a_slot_that_no_running_job_holds():
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


METRIC = """
from pippin import ImageMetric, declare_metric

declare_metric(
    ImageMetric(
        name="NAME",
        description="of NAME",
        better="lower",
        values=lambda images: images[:, 0, 0, 0],
    )
)
"""


@pytest.fixture
def metric_modules(tmp_path, monkeypatch):
    """Two modules on Python's path; each declares the metric of its name."""
    names = ["tests_named_metric", "tests_program_metric"]
    for name in names:
        (tmp_path / f"{name}.py").write_text(METRIC.replace("NAME", name))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.setattr(plugins, "_registering", {})
    for switch in (SWITCH, *LIBRARY_SWITCHES):
        monkeypatch.delenv(switch, raising=False)
    yield names
    for name in names:  # an import declares its metric once, and a test's metrics end with it
        sys.modules.pop(name, None)


def test_a_worker_takes_over_the_state_of_its_parent_at_its_start(metric_modules):
    """The fork server keeps the environment of the first job."""
    named, program = metric_modules
    executor = LocalExecutor(1)

    def state(metric):
        return executor.submit(fake_runs.worker_state, metric).result()

    before = state(named)
    assert before == {
        "offline": False, "hub": None, "quiet": False, "imports": [], "description": ""
    }  # fmt: skip
    with offline_mode(True), hidden_progress():
        plugins.import_modules([named])
        inside = state(named)
    import_module(program)  # by the program itself
    after = state(program)
    assert inside == {
        "offline": True, "hub": "1", "quiet": True, "imports": [named],
        "description": f"of {named}",
    }  # fmt: skip
    assert after == before | {"imports": [named], "description": f"of {program}"}


def test_a_job_of_a_cluster_imports_the_modules_of_its_study(metric_modules):
    """Whatever its environment: a cluster may hand over none."""
    named, program = metric_modules
    job = pickle.dumps(
        Resumable(WorkerModules(named=(named,), registering=(program, "tests_x.y")))
    )
    state = pickle.loads(job)(fake_runs.worker_state, program)
    assert (state["imports"], state["description"]) == ([named], f"of {program}")
    again = pickle.loads(job).checkpoint(fake_runs.worker_state, named)
    assert again.result()["description"] == f"of {named}"
    assert "tests_x" not in sys.modules


def test_a_run_ends_with_a_study_that_is_killed(tmp_path, monkeypatch):
    """Else it would train on, and hold its folder's lock when the study is run again."""
    fork = multiprocessing.get_context("fork")  # torch is imported already
    receiver, sender = fork.Pipe(duplex=False)

    def study():
        monkeypatch.setattr("pippin.studies.executors.multiprocessing.get_context", lambda _: fork)
        job = LocalExecutor(1).submit(fake_runs.lock_and_wait, tmp_path)
        wait_for((tmp_path / "locked").exists)
        sender.send(job._process.pid)
        time.sleep(60)

    parent = fork.Process(target=study)
    parent.start()
    try:
        assert receiver.poll(60)
        job = receiver.recv()
        with pytest.raises(FolderBusyError), folder_lock(tmp_path):
            pass
    finally:
        parent.kill()
        parent.join()
    wait_for(lambda: is_free(tmp_path), seconds=10)
    with pytest.raises(ProcessLookupError):
        wait_for(lambda: os.kill(job, 0), seconds=10)


def test_no_process_outlives_a_program_with_a_study(tmp_path):
    """A signal to its process group lets the runs save. SIGKILL of the program ends all else:
    runs, their data workers, and the fork server between them and the program."""
    command = "import sys, fake_runs; fake_runs.run_two_for_ever(sys.argv[1])"
    program = subprocess.Popen(
        [sys.executable, "-c", command, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len([*tmp_path.glob("runs/*/waiting")]) == 2, seconds=300)
        processes = descendants(program.pid)
        assert len(processes) >= 5  # fork server, two runs, two data workers
        os.killpg(program.pid, signal.SIGTERM)
        wait_for(lambda: len([*tmp_path.glob("runs/*/stopped")]) == 2, seconds=60)
        assert set(descendants(program.pid)) >= set(processes[-4:])
    finally:
        program.kill()
        program.wait()
    wait_for(lambda: not any(map(is_alive, processes)), seconds=60)


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


def test_submitit_runs_the_same(study, tmp_path):
    executor = SlurmExecutor(tmp_path / "jobs", SlurmConfig(), jobs=2, cluster="debug")
    folder = tmp_path / "study"
    run_study(replace(study, seeds=(0,)), folder, fake_runs.execute, quiet, executor=executor)
    assert {key: value for key, (value, _) in values(folder).items()} == {
        ("entangled", 0): 0.0,
        ("disentangled", 0): 1.0,
    }


def test_a_run_that_no_job_can_be_had_for_costs_itself_only(study, tmp_path):
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


def make_slurm(folder, monkeypatch, sbatch):
    """A Slurm whose sbatch is this line of shell."""
    for name, text in {"srun": "exit 0", "sbatch": sbatch}.items():
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_what_a_job_asks_for_stands_in_its_script(tmp_path, monkeypatch):
    make_slurm(tmp_path, monkeypatch, f'cp "$1" {tmp_path}/script; echo Submitted batch job 12')
    words = "--slurm.partition p --slurm.account a --slurm.qos q --slurm.constraint a100"
    extra = "--slurm.extra reservation=course mail-type=END --slurm.gpus 0"
    config = parse(StudyCommand, "", f"{words} {extra}".split(), StudyCommand()).slurm
    SlurmExecutor(tmp_path / "jobs", config, jobs=1).submit(fake_runs.execute, None, tmp_path)
    asked = (tmp_path / "script").read_text()
    wanted = ["partition=p", "account=a", "qos=q", "constraint=a100", "reservation=course"]
    for option in [*wanted, "mail-type=END", "gpus-per-node=0", "time=1440"]:
        assert f"#SBATCH --{option}\n" in asked, option


def test_every_option_of_a_job_is_explained(capsys):
    with pytest.raises(SystemExit):
        parse(StudyCommand, "", ["--help"], StudyCommand())
    shown = " ".join(capsys.readouterr().out.split()).partition("slurm options")[2]
    options = shown.split("--slurm.")[1:]
    assert len(options) == len(fields(SlurmConfig))
    for option in options:
        assert len(option.partition("(default")[0].split()) > 4, option


def test_what_sbatch_says_is_recorded(study, tmp_path, monkeypatch):
    """A Slurm that takes no job."""
    make_slurm(tmp_path, monkeypatch, "echo QOSMaxSubmitJobPerUser >&2; exit 1")
    executor = SlurmExecutor(tmp_path / "jobs", SlurmConfig(), jobs=1)
    folder = tmp_path / "study"
    summary = run_study(
        replace(study, seeds=(0,)), folder, fake_runs.execute, quiet, executor=executor
    )
    assert set(summary.statuses.values()) == {"failed"} and not summary.interrupted
    outcomes = read(folder / "results.jsonl").outcomes
    assert len(outcomes) == 2
    for one in outcomes:
        assert "could not be started: " in one.message
        assert "QOSMaxSubmitJobPerUser" in one.message


def uninterrupted(folder):
    """EMA weights of a run without a stop."""
    folder.mkdir()
    fake_runs.train_slowly(None, folder)
    return load_file(folder / "checkpoints/800/ema.safetensors")


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_job_at_its_time_limit_saves_and_goes_on_in_another(tmp_path, monkeypatch):
    """submitit's own jobs and its own way of putting one in the queue again."""
    here = Path(fake_runs.__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), *sys.path]))
    folder = tmp_path / "run"
    folder.mkdir()
    executor = SlurmExecutor(tmp_path / "jobs", SlurmConfig(minutes=3), 1, cluster="local")
    job = executor.submit(fake_runs.train_slowly, None, folder)
    wait_for(lambda: (folder / "stepping").exists())
    command = ["pgrep", "-P", job.job_id]
    (task,) = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(task), signal.SIGUSR2)
    wait_for(job.done)
    assert job.result() == []
    first, second = map(int, (folder / "begun").read_text().split())
    assert first == 0 < second < 100
    assert same(
        uninterrupted(tmp_path / "whole"), load_file(folder / "checkpoints/800/ema.safetensors")
    )


def wait_for(there, seconds=240):
    for _ in range(20 * seconds):
        if there():
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing came within {seconds} seconds")


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR2, True), (signal.SIGTERM, False)])
def test_both_signals_of_a_cluster_save_and_one_asks_for_another_job(
    number, requeued, tmp_path, monkeypatch
):
    """After SIGTERM the job may have been cancelled: whether it comes again is Slurm's to say."""
    seen = []

    def submitit(heard, frame):
        seen.append((heard, newest_intact_checkpoint(tmp_path / "checkpoints")[0].name))

    before = signal.signal(signal.SIGUSR2, submitit)

    def send():
        wait_for(lambda: (tmp_path / "stepping").exists())
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(SystemExit) as left:
            Resumable()(fake_runs.train_slowly, None, tmp_path)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR2, before)
    assert left.value.code == 128 + number
    newest, _ = newest_intact_checkpoint(tmp_path / "checkpoints")
    assert 0 < int(newest.name) < 800
    assert seen == ([(number, newest.name)] if requeued else [])
    again = Resumable().checkpoint(fake_runs.train_slowly, None, tmp_path)
    assert again.result() == []
    assert (tmp_path / "begun").read_text().split() == ["0", str(int(newest.name) // 8)]


def test_a_signal_outside_of_training_ends_the_job_at_once(tmp_path):
    def evaluate():
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(30)

    seen = []
    before = signal.signal(signal.SIGUSR2, lambda heard, frame: seen.append(heard))
    try:
        with pytest.raises(SystemExit):
            Resumable()(evaluate)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert seen == [signal.SIGUSR2]


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--jobs must be 1 or more; got 0"):
        LocalExecutor(0)
    with pytest.raises(ConfigError, match=r"Slurm is not available on this.*executor local"):
        SlurmExecutor(tmp_path, SlurmConfig(), jobs=1)
    with pytest.raises(ConfigError, match=r"slurm\.gpus must be 0 or 1.*got 8"):
        SlurmConfig(gpus=8)
    with pytest.raises(ConfigError, match=r"slurm\.minutes"):
        SlurmConfig(minutes=0)
    with pytest.raises(ConfigError, match=r"slurm\.gpus .* 0 or 1; got 8: .*--jobs N"):
        SlurmConfig(gpus=8)
    with pytest.raises(ConfigError, match=r"slurm\.warning_seconds .*120 s of 1 minutes"):
        SlurmConfig(minutes=1)
