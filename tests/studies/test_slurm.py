# SPDX-License-Identifier: Apache-2.0
"""Runs of a study as Slurm jobs."""

import os
import signal
import subprocess
import threading
import time
from dataclasses import fields, replace
from types import SimpleNamespace

import fake_runs
import pytest
import torch
from forked_python import ForkedPython
from safetensors.torch import load_file
from waiting import wait_for

from pippin.cli.parsing.options import parse
from pippin.cli.study import StudyCommand
from pippin.config import ConfigError
from pippin.runs.checkpoint import newest_intact_checkpoint
from pippin.studies.results import read
from pippin.studies.runner import run_study
from pippin.studies.slurm import Resumable, SlurmConfig, SlurmExecutor


def quiet(text: str) -> None:
    pass


def test_submitit_runs_the_same(study, tmp_path):
    executor = SlurmExecutor(tmp_path / "jobs", SlurmConfig(), jobs=2, cluster="debug")
    folder = tmp_path / "study"
    run_study(replace(study, seeds=(0,)), folder, fake_runs.execute, quiet, executor=executor)
    rows = read(folder / "results.jsonl").rows
    assert {(row.arm, row.seed): row.value for row in rows} == {
        ("entangled", 0): 0.0,
        ("disentangled", 0): 1.0,
    }


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
    (folder / "signalled").touch()
    fake_runs.train_slowly(None, folder)
    return load_file(folder / "checkpoints/800/ema.safetensors")


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_job_at_its_time_limit_saves_and_goes_on_in_another(tmp_path, monkeypatch):
    """submitit's own jobs and its own way of putting one in the queue again; its programs run in
    forks."""
    monkeypatch.setattr("submitit.local.local.subprocess", SimpleNamespace(Popen=ForkedPython))
    folder = tmp_path / "run"
    folder.mkdir()
    executor = SlurmExecutor(tmp_path / "jobs", SlurmConfig(minutes=3), 1, cluster="local")
    job = executor.submit(fake_runs.train_slowly, None, folder)
    wait_for(lambda: (folder / "stepping").exists())
    command = ["pgrep", "-P", job.job_id]
    (task,) = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(task), signal.SIGUSR2)
    (folder / "signalled").touch()
    wait_for(job.done)
    assert job.result() == []
    first, second = map(int, (folder / "begun").read_text().split())
    assert first == 0 < second < 100
    assert same(
        uninterrupted(tmp_path / "whole"), load_file(folder / "checkpoints/800/ema.safetensors")
    )


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
        (tmp_path / "signalled").touch()

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
