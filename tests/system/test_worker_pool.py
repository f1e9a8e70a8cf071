# SPDX-License-Identifier: Apache-2.0
"""Worker pool: results, errors, kills and signals."""

import os
import signal
import subprocess
import sys
import time

import pytest
from waiting import wait_for

from pippin.config import ConfigError
from pippin.system.workers.pool import worker_pool
from pippin.system.workers.processes import WorkerKilledError


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_calls_are_shared_and_their_errors_are_the_callers(tmp_path):
    os.mkfifo(tmp_path / "end")
    with worker_pool(2, "advice") as submit:
        slow = submit(os.open, tmp_path / "end", os.O_RDONLY)  # until it is opened for writing
        pids = {submit(os.getpid).result() for _ in range(3)}
        bad, worse = submit(int, "x"), submit(os.rmdir, "/nowhere")
        assert submit(divmod, 7, 2).result() == (3, 1)
        os.close(os.open(tmp_path / "end", os.O_WRONLY))
        slow.result()
        with pytest.raises(ValueError, match="invalid literal") as raised:
            bad.result()
        assert "Traceback" in raised.value.__notes__[0]
        with pytest.raises(FileNotFoundError) as missing:
            worse.result()
        assert missing.value.filename == "/nowhere"
    assert os.getpid() not in pids and all(map(gone, pids))


def test_an_error_of_the_body_lets_calls_that_have_begun_come_to_their_end(tmp_path):
    with pytest.raises(ConfigError), worker_pool(2, "advice") as submit:
        slow = submit(subprocess.call, ["sh", "-c", f"sleep 0.5; touch {tmp_path}/done"])
        submit(os.getpid).result()
        raise ConfigError
    assert slow.result() == 0 and (tmp_path / "done").exists()


def test_a_signal_ends_workers_whatever_they_wait_for():
    """Pending calls end too; the exception stands for Ctrl-C, or SIGTERM in the main thread."""
    with pytest.raises(KeyboardInterrupt), worker_pool(2, "advice") as submit:
        pids = {submit(os.getpid).result()}
        calls = [submit(time.sleep, 3600) for _ in range(4)]
        raise KeyboardInterrupt
    assert all(map(gone, pids))
    assert all(call.cancelled() or call.exception() is not None for call in calls)


def test_a_worker_that_is_killed_is_one_error_with_the_advice():
    with (
        pytest.raises(
            WorkerKilledError, match=r"killed by SIGKILL: out of memory\? --processes below 2 take"
        ),
        worker_pool(2, "--processes below 2 take less") as submit,
    ):
        pid = submit(os.getpid).result()
        submit(os.kill, pid, signal.SIGKILL).result()
        submit(os.kill, submit(os.getpid).result(), signal.SIGKILL).result()


def test_workers_end_with_a_parent_that_is_killed():
    code = (
        "import os, time; from pippin.system.workers.pool import worker_pool\n"
        "with worker_pool(1, '') as submit:\n"
        "    print(submit(os.getpid).result(), flush=True); submit(time.sleep, 3600).result()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    assert not gone(worker)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    state = ["ps", "-o", "stat=", "-p", str(worker)]
    wait_for(
        lambda: subprocess.run(state, capture_output=True, text=True).stdout.strip()[:1] in "Z"
    )
