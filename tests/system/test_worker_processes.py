# SPDX-License-Identifier: Apache-2.0
"""Worker processes end with their parent, and a killed one raises a single error."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from torch.utils.data import DataLoader
from waiting import wait_for

from pippin.system.workers import processes as worker_processes
from pippin.system.workers.processes import (
    WorkerKilledError,
    end_with,
    start_worker,
    watch_workers,
    worker_failure_message,
)

FORK = multiprocessing.get_context("fork")


def alive(pid):
    """Whether a process runs; a zombie does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")


def ends(pid):
    """Wait for the end of a process."""
    wait_for(lambda: not alive(pid))
    return True


def parent_of(pids, context, begin):
    """Start a worker in a context; the worker sends its process id."""
    child = multiprocessing.get_context(context).Process(target=begin, args=(pids,))
    child.start()
    time.sleep(3600)


def send_pid_and_wait(pids):
    start_worker()
    pids.send(os.getpid())
    time.sleep(3600)


def send_pid_and_wait_without_prctl(pids):
    """On systems without PR_SET_PDEATHSIG."""
    worker_processes._kernel_kills_with_parent = lambda: False
    worker_processes.POLL_INTERVAL = 0.05
    send_pid_and_wait(pids)


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("begin", [send_pid_and_wait, send_pid_and_wait_without_prctl])
def test_a_worker_ends_with_a_parent_that_is_killed(begin, stopped):
    if stopped and (
        begin is send_pid_and_wait_without_prctl or not sys.platform.startswith("linux")
    ):
        pytest.skip("only the kernel ends a process that is stopped")
    receiver, sender = FORK.Pipe(duplex=False)
    parent = FORK.Process(target=parent_of, args=(sender, "fork", begin))
    parent.start()
    assert receiver.poll(600)
    worker = receiver.recv()
    if stopped:  # like one that waits for a disk
        os.kill(worker, signal.SIGSTOP)
    assert alive(worker)
    parent.kill()
    parent.join()
    assert ends(worker)


SCRIPT = """
import multiprocessing, sys, time
from multiprocessing import get_context
from pippin.system.workers.processes import start_worker

def work(number):
    start_worker()
    print("begun", flush=True)
    time.sleep(3600)

if __name__ == "__main__":
    process = get_context(sys.argv[1]).Process(target=work, args=(1,))
    process.start()
    print(process.pid, flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_a_worker_that_is_not_forked_ends_with_its_parent(context, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen(
        [sys.executable, str(script), context], stdout=subprocess.PIPE, text=True
    )
    worker = int(parent.stdout.readline())
    assert parent.stdout.readline() == "begun\n"
    parent.kill()
    parent.wait()
    assert ends(worker)
    parent.stdout.close()


FORK_SERVER = """
import ctypes, multiprocessing, os, time

def work(pipe):
    pipe.send((os.getppid(), os.getpid()))
    ctypes.PyDLL(None).sleep(3600)  # holds the GIL: no thread of this process runs

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pippin.system.workers.fork_server"])
    receiver, sender = context.Pipe(duplex=False)
    context.Process(target=work, args=(sender,)).start()
    print(*receiver.recv(), flush=True)
    time.sleep(3600)
"""


def test_a_fork_server_and_its_busy_children_end_with_the_program(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(FORK_SERVER)
    program = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    server, worker = map(int, program.stdout.readline().split())
    for number in (signal.SIGTERM, signal.SIGUSR2):  # meant for the program
        os.kill(server, number)
    time.sleep(0.2)
    assert alive(server) and alive(worker)
    program.kill()
    program.wait()
    program.stdout.close()
    assert ends(server) and ends(worker)


def test_a_worker_ends_if_its_parent_has_ended_already():
    worker = FORK.Process(target=end_with, args=(2**22 + 1,))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL


def test_a_rank_ends_with_torchrun():
    rank = (
        "import os, time; from pippin.system.workers import processes as worker_processes\n"
        "worker_processes.POLL_INTERVAL = 0.05\n"
        "worker_processes.end_with_launcher(); print(os.getpid(), flush=True); time.sleep(3600)"
    )
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {rank!r}])",
        ],
        env=os.environ | {"TORCHELASTIC_RUN_ID": "x"},
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(launcher.stdout.readline())
    assert alive(pid)
    launcher.kill()
    launcher.wait()
    assert ends(pid)
    launcher.stdout.close()


class Rows:
    """Data set that kills a worker."""

    def __init__(self, killed_at):
        self.killed_at = killed_at

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == self.killed_at and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_worker_that_is_killed_is_one_error():
    loader = DataLoader(
        Rows(5),
        batch_size=None,
        num_workers=2,
        worker_init_fn=start_worker,
        multiprocessing_context="fork",
    )
    with pytest.raises(WorkerKilledError, match=r"SIGKILL: out of memory\? fewer train.workers"):
        list(watch_workers(loader))
    assert list(watch_workers(DataLoader(Rows(5), batch_size=None))) == list(range(8))


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), EOFError(), RuntimeError("x")])
def test_a_broken_connection_is_the_same_error(error):
    """The connection breaks in the middle of a batch."""

    class Started:
        """Loader whose worker starts on iteration."""

        def __iter__(self):
            self.worker = FORK.Process(target=lambda: os.kill(os.getpid(), signal.SIGKILL))
            self.worker.start()
            return self

        def __next__(self):
            raise error

    with pytest.raises(WorkerKilledError, match="SIGKILL"):
        list(watch_workers(Started()))


def test_an_error_with_live_workers_is_unchanged(monkeypatch):
    monkeypatch.setattr(worker_processes, "EXIT_TIMEOUT", 0.05)

    def failing():
        yield 1
        raise OSError("disk on fire")

    batches = watch_workers(failing())
    assert next(batches) == 1
    with pytest.raises(OSError, match="disk on fire"):
        next(batches)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", r"pid 7\) .* signal Killed: "),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", r"pid 7, 8\) ended early: "),
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
            "dataloader's workers are out of shared memory.",
            "ran out of shared memory",
        ),
    ],
)
def test_torchs_messages_are_recognised(text, message):
    explanation = worker_failure_message(RuntimeError(text))
    assert explanation is not None and re.search(message, explanation)
    assert "fewer train.workers" in explanation
    assert worker_failure_message(RuntimeError("shapes do not match")) is None
    assert worker_failure_message(OSError(text)) is None
