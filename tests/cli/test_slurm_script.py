# SPDX-License-Identifier: Apache-2.0
"""examples/slurm.sbatch with stubs for torchrun and scontrol, and unconnected tasks."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from waiting import wait_for

from pippin.cli.main import main
from pippin.distributed.world import refuse_unconnected_tasks

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm.sbatch"
TORCHRUN = """#!/bin/bash
echo "$@" > arguments
trap 'sleep 0.3; touch saved; exit 1' TERM
touch training
if [ -n "$SHORT" ]; then exit "$SHORT"; fi
while true; do sleep 0.05; done
"""


@pytest.fixture
def start(tmp_path):
    """Run the script as a job with two GPUs."""
    for name, text in {
        "torchrun": TORCHRUN,
        "scontrol": '#!/bin/bash\necho "$@" > requeued\n',
    }.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    job = {"SLURM_JOB_ID": "12", "SLURM_GPUS_ON_NODE": "2", "PATH": path}

    def started(**more):
        command = ["bash", str(SCRIPT), "a/recipe", "--data.path", "my photos"]
        return subprocess.Popen(command, cwd=tmp_path, env=os.environ | job | more)

    return started


def handles_sigterm(pid):
    """Whether the script has set its traps; the one of SIGTERM is the last."""
    command = ["ps", "-o", "caught=", "-p", str(pid)]
    caught = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(caught, 16) >> (signal.SIGTERM - 1) & 1


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR2, True), (signal.SIGTERM, False)])
def test_a_signal_saves_and_the_one_of_the_limit_asks_for_another_job(
    start, tmp_path, number, requeued
):
    job = start()
    wait_for(lambda: (tmp_path / "training").exists() and handles_sigterm(job.pid))
    job.send_signal(number)
    assert job.wait() == 1
    assert (tmp_path / "saved").exists()  # it waited for the checkpoint
    assert (tmp_path / "requeued").exists() == requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 12\n"
    given = (tmp_path / "arguments").read_text()
    options = "--standalone --nproc-per-node 2 --max-restarts 2"
    assert given.startswith(f"{options} -m pippin train a/recipe")
    assert given.endswith("--data.path my photos --resume auto\n")


@pytest.mark.parametrize("code", [0, 1])
def test_a_run_that_ends_by_itself_does_not_come_again(start, tmp_path, code):
    assert start(SHORT=str(code)).wait() == code
    assert not (tmp_path / "requeued").exists()


def test_tasks_that_would_each_train_alone_are_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    folder = tmp_path / "run"
    assert main(["train", "openmoji/dit-entangled", "--folder", str(folder)]) == 2
    assert "8 tasks, and each would train separately: start one" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"},  # a shell or a script in an allocation
        {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # submitit's
        {"SLURM_STEP_NUM_TASKS": "2", "WORLD_SIZE": "16"},  # torchrun's, a task for each machine
        {"SLURM_STEP_NUM_TASKS": "8", "WORLD_SIZE": "1"},  # runs of their own
        {},
    ],
)
def test_a_single_process_is_none_of_them(monkeypatch, environment):
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    refuse_unconnected_tasks()
