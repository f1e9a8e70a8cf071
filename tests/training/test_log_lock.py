# SPDX-License-Identifier: Apache-2.0
"""The log of a resumed run, and the lock of a run folder."""

import json
import subprocess
import sys

import pytest

from pippin.training.lock import FolderBusyError, folder_lock
from pippin.training.log import RunLog, read_log


def test_lines_after_the_resumed_checkpoint_and_torn_ones_go(tmp_path):
    log = RunLog(tmp_path, 0)
    for images in (100, 200, 300):
        log.write(images, loss=1.0 / images)
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"images": 40')  # a kill in the middle of a line
    assert [line["images"] for line in read_log(tmp_path / "log.jsonl")] == [100, 200, 300]
    again = RunLog(tmp_path, 200)
    again.write(300, loss=0.5)
    again.close()
    lines = [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [100, 200, 300]
    assert lines[-1]["loss"] == 0.5


def test_a_second_process_is_refused_and_a_dead_one_frees_the_folder(tmp_path):
    code = (
        "import sys, pathlib; from pippin.training.lock import folder_lock\n"
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
