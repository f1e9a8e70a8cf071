# SPDX-License-Identifier: Apache-2.0
"""The log of a resumed run, and the lock of a run folder."""

import json
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from pippin.system.lines import read_lines
from pippin.system.lock import FolderBusyError, folder_lock
from pippin.training.log import RunLog
from pippin.training.trackers import TensorBoard, _silence_writer_thread


def test_lines_after_the_resumed_checkpoint_and_torn_ones_go(tmp_path):
    log = RunLog(tmp_path, 0)
    for images in (100, 200, 300):
        log.write(images, loss=1.0 / images)
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"images": 40')  # a kill in the middle of a line
    found = read_lines(tmp_path / "log.jsonl")
    assert [line["images"] for line in found.objects.values()] == [100, 200, 300]
    assert list(found.problems) == [4]
    again = RunLog(tmp_path, 200)
    again.write(300, loss=0.5)
    again.close()
    lines = [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [100, 200, 300]
    assert lines[-1]["loss"] == 0.5


def test_a_log_that_finds_no_room_names_its_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    board = TensorBoard(tmp_path, 0)
    log = RunLog(tmp_path, 0, [board])
    with monkeypatch.context() as patched:
        patched.setattr(board._board, "add_scalar", full)
        with pytest.raises(OSError, match=r"No space left on device: .*tensorboard"):
            log.write(100, loss=0.5)
        patched.setattr(log, "_file", SimpleNamespace(write=full))
        with pytest.raises(OSError, match=r"No space left on device: .*log\.jsonl"):
            log.write(200, loss=0.5)
    log.close()
    board.close()


@pytest.mark.parametrize(
    ("error", "shown"), [(OSError(28, "No space left on device"), False), (KeyError(), True)]
)
def test_only_a_full_disk_in_the_thread_of_tensorboard_prints_nothing(monkeypatch, error, shown):
    seen = []
    monkeypatch.setattr("threading.excepthook", seen.append)
    _silence_writer_thread.__wrapped__()
    thread = type("_AsyncWriterThread", (threading.Thread,), {})()
    threading.excepthook(threading.ExceptHookArgs((type(error), error, None, thread)))
    assert bool(seen) == shown


def test_a_second_process_is_refused_and_a_dead_one_frees_the_folder(tmp_path):
    code = (
        "import sys, pathlib; from pippin.system.lock import folder_lock\n"
        f"with folder_lock(pathlib.Path({str(tmp_path)!r})):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "held\n"
    with pytest.raises(FolderBusyError, match="in use by another"), folder_lock(tmp_path):
        pass
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    with folder_lock(tmp_path):
        pass


def test_a_line_has_the_time_and_null_for_a_value_that_is_not_finite(tmp_path):
    times = iter([1_800_000_000.12345, 1_800_000_009.0])
    log = RunLog(tmp_path, 0, clock=lambda: next(times))
    log.write(100, held_out_loss=float("nan"), loss=1.0)
    log.note(100, "resumed on other data")
    log.close()
    lines = read_lines(tmp_path / "log.jsonl")
    wall_time = 1_800_000_000.123
    expected = {"images": 100, "wall_time": wall_time, "held_out_loss": None, "loss": 1.0}
    assert lines.objects[1] == expected
    assert lines.objects[2]["wall_time"] == 1_800_000_009
