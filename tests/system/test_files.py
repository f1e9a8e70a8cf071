# SPDX-License-Identifier: Apache-2.0
"""Files are complete or absent, whatever happens during a write."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from forked_python import run_code

from pippin.system.files import atomic_write, remove_temporary_files, write_bytes, write_json
from pippin.system.tensors import load_tensors, save_tensors


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "file", b"old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_temporary_files_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".state.json.77.writing").write_text("half")
    (tmp_path / "state.json").write_text("whole")
    remove_temporary_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_temporary_files_of_a_live_process_stay(tmp_path: Path) -> None:
    """Two writers of one file: the second must not remove the first one's temporary file."""
    words = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as other:
        staged = tmp_path / f".state.json.{other.pid}.writing"
        staged.write_text("half")
        remove_temporary_files(tmp_path)
        assert staged.exists()
    remove_temporary_files(tmp_path)
    assert not staged.exists()


def test_two_writers_of_one_file_use_separate_temporary_files(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as first:
        assert str(os.getpid()) in first.name
        first.write_text("x")
    assert (tmp_path / "a").read_text() == "x"


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_weight_files_follow_the_umask(tmp_path: Path, mask: int) -> None:
    """A group that shares a disk can open each other's checkpoints and exports."""
    before = os.umask(mask)
    try:
        save_tensors(tmp_path / "w.safetensors", {"w": torch.ones(2)})
        write_json(tmp_path / "config.json", {})
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("w.safetensors", "config.json"), 0o666 & ~mask)


def test_tensors_come_back_from_any_layout(tmp_path: Path) -> None:
    turned = torch.arange(6.0).reshape(2, 3).T
    save_tensors(tmp_path / "t.safetensors", {"turned": turned}, metadata={"key": "value"})
    assert torch.equal(load_tensors(tmp_path / "t.safetensors")["turned"], turned)


def test_damaged_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_tensors(path, {"a": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"t\.safetensors is damaged"):
        load_tensors(path)


LIMITED = """
import resource, sys, torch
from pathlib import Path
from pippin.system.{module} import {name} as write
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    write(Path(sys.argv[1]), {content})
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "name", "content"),
    [
        ("files", "write_bytes", "bytes(100_000)"),
        ("tensors", "save_tensors", "{'a': torch.ones(100_000)}"),
        ("lines", "append_lines", "[{'a': 'x' * 100_000}]"),
    ],
)
def test_a_full_file_system_leaves_the_old_content(
    tmp_path: Path, module: str, name: str, content: str
) -> None:
    """A file size limit simulates a full disk: the write fails after its first part."""
    assert resource.RLIMIT_FSIZE
    path = tmp_path / "file"
    write_json(path, {"old": 1})
    before = path.read_bytes()
    code = LIMITED.format(module=module, name=name, content=content)
    done = run_code(code, tmp_path, str(path))
    assert "too large" in done.stdout and str(path) in done.stdout, done.stdout
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
