# SPDX-License-Identifier: Apache-2.0
"""Worker processes end with their parent, and one that was killed is one message."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from torch.utils.data import DataLoader

from pippin.system import children
from pippin.system.children import (
    WorkerKilledError,
    end_with,
    killed_worker,
    start_worker,
    watch_workers,
)

FORK = multiprocessing.get_context("fork")


def alive(pid):
    """Whether a process runs; one that has ended and is not reaped does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")


def ends(pid, seconds=10.0):
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = alive(pid)
    if left:
        os.kill(pid, signal.SIGKILL)
    return not left


def parent_of(pids, context, begin):
    """A process that starts one in a context, whose process id it tells."""
    child = multiprocessing.get_context(context).Process(target=begin, args=(pids,))
    child.start()
    time.sleep(60)


def tell_and_wait(pids):
    start_worker()
    pids.send(os.getpid())
    time.sleep(60)


def tell_and_wait_elsewhere(pids):
    """Where the kernel does not do it."""
    children._kernel_kills_with_parent = lambda: False
    children.POLL_INTERVAL = 0.05
    tell_and_wait(pids)


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("begin", [tell_and_wait, tell_and_wait_elsewhere])
def test_a_worker_ends_with_a_parent_that_is_killed(begin, stopped):
    if stopped and (begin is tell_and_wait_elsewhere or not sys.platform.startswith("linux")):
        pytest.skip("only the kernel ends a process that is stopped")
    ours, theirs = FORK.Pipe(duplex=False)
    parent = FORK.Process(target=parent_of, args=(theirs, "fork", begin))
    parent.start()
    assert ours.poll(10)
    worker = ours.recv()
    if stopped:  # as one that waits for a disk
        os.kill(worker, signal.SIGSTOP)
    assert alive(worker)
    parent.kill()
    parent.join()
    assert ends(worker)


SCRIPT = """
import multiprocessing, sys, time
from multiprocessing import get_context
from pippin.system.children import start_worker

def work(number):
    start_worker()
    print("begun", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    process = get_context(sys.argv[1]).Process(target=work, args=(1,))
    process.start()
    print(process.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_so_does_one_that_is_not_forked(context, tmp_path):
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


def test_a_parent_that_has_ended_already_is_noticed():
    worker = FORK.Process(target=end_with, args=(2**22 + 1,))
    worker.start()
    worker.join(10)
    assert worker.exitcode == -signal.SIGKILL


def test_a_rank_ends_with_torchrun():
    rank = (
        "import os, time; from pippin.system import children; children.POLL_INTERVAL = 0.05\n"
        "children.end_with_launcher(); print(os.getpid(), flush=True); time.sleep(60)"
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
    """A data set in which a worker is killed."""

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
def test_so_is_what_its_broken_connection_gives(error):
    """In the middle of a batch that is handed over."""

    class Started:
        """A loader: its worker starts when it is iterated."""

        def __iter__(self):
            self.worker = FORK.Process(target=lambda: os.kill(os.getpid(), signal.SIGKILL))
            self.worker.start()
            return self

        def __next__(self):
            raise error

    with pytest.raises(WorkerKilledError, match="SIGKILL"):
        list(watch_workers(Started()))


def test_an_error_while_all_workers_live_stays_what_it_is(monkeypatch):
    monkeypatch.setattr(children, "EXIT_TIMEOUT", 0.05)

    def failing():
        yield 1
        raise OSError("disk on fire")

    batches = watch_workers(failing())
    assert next(batches) == 1
    with pytest.raises(OSError, match="disk on fire"):
        next(batches)


@pytest.mark.parametrize(
    ("text", "said"),
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
def test_torchs_own_words_are_understood(text, said):
    found = killed_worker(RuntimeError(text))
    assert found is not None and re.search(said, found)
    assert "fewer train.workers" in found
    assert killed_worker(RuntimeError("shapes do not match")) is None
    assert killed_worker(OSError(text)) is None
