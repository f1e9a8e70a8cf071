# SPDX-License-Identifier: Apache-2.0
"""Only regular files are opened, and nothing waits."""

import os
import socket
from pathlib import Path

import pytest

from pippin.system import files as regular_files
from pippin.system.files import NotRegularError, open_regular


def test_a_file_is_opened_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"hello"


def test_fifos_sockets_devices_and_folders_are_refused_by_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo("fifo")
    Path("fifo-link").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        kinds = {
            "fifo": "a FIFO",
            "fifo-link": "a FIFO",
            "socket": "a socket",
            "/dev/zero": "a device",
            ".": "a folder",
        }
        for name, kind in kinds.items():
            with pytest.raises(NotRegularError, match=f"is {kind}, not a file") as refused:
                open_regular(Path(name))
            assert refused.value.kind == kind


def test_what_becomes_a_fifo_after_the_first_look_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"")
    monkeypatch.setattr(regular_files.os, "stat", lambda path: os.lstat(tmp_path / "b"))
    with pytest.raises(NotRegularError, match="is a FIFO"):
        open_regular(tmp_path / "a")


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "gone")
