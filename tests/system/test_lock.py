# SPDX-License-Identifier: Apache-2.0
"""A lock belongs to one process, and opening it changes nothing."""

import errno
import multiprocessing
import os
import signal
import socket
import threading

import pytest

from pippin.system.lock import FolderBusyError, folder_lock, lock_directory, open_lock

FORK = multiprocessing.get_context("fork")


def busy(folder):
    try:
        with folder_lock(folder):
            return False
    except FolderBusyError:
        return True


def test_a_forked_worker_does_not_keep_the_lock(tmp_path):
    """Like a DataLoader worker that waits for a disk when its training is killed."""
    done = FORK.Event()
    with folder_lock(tmp_path), folder_lock(tmp_path / "inner"):
        worker = FORK.Process(target=done.wait)
        worker.start()
        assert busy(tmp_path) and busy(tmp_path / "inner")
    try:
        assert worker.is_alive()
        assert not busy(tmp_path) and not busy(tmp_path / "inner")
    finally:
        done.set()
        worker.join()


def test_a_forked_child_that_leaves_the_body_releases_nothing(tmp_path):
    with folder_lock(tmp_path):
        pid = os.fork()
        if pid:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert busy(tmp_path)
    if not pid:
        with open(os.devnull, "rb"):  # may have the number that the lock had
            os._exit(0)
    assert not busy(tmp_path)


def test_a_fork_in_another_thread_waits_until_the_lock_is_registered(tmp_path, monkeypatch):
    opened, go_on, forked = threading.Event(), threading.Event(), threading.Event()
    real = os.fstat

    def slow(descriptor):
        opened.set()
        go_on.wait(10)
        return real(descriptor)

    monkeypatch.setattr("pippin.system.lock.os.fstat", slow)
    worker = FORK.Process(target=signal.pause)

    def fork():
        worker.start()
        forked.set()

    def hold():
        with folder_lock(tmp_path):
            forked.wait(10)

    holder, forker = threading.Thread(target=hold), threading.Thread(target=fork)
    holder.start()
    assert opened.wait(10)
    forker.start()
    assert not forked.wait(0.2)
    go_on.set()
    holder.join()
    forker.join()
    monkeypatch.undo()
    try:
        assert not busy(tmp_path)
    finally:
        worker.kill()
        worker.join()


@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "folder", "socket"])
def test_a_path_that_is_not_a_lock_file_is_refused_and_unchanged(tmp_path, kind):
    mine, place = tmp_path / "mine", tmp_path / "folder" / ".lock"
    mine.write_text("precious")
    place.parent.mkdir()
    if kind == "link":
        place.symlink_to(mine)
    elif kind == "dangling link":
        place.symlink_to(tmp_path / "nothing")
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        short = os.path.relpath(place)
        socket.socket(socket.AF_UNIX).bind(short if len(short) < 100 else str(place)[-100:])
    with pytest.raises(ValueError, match=r"folder/\.lock is a link or a special file"):
        busy(place.parent)
    assert mine.read_text() == "precious" and not (tmp_path / "nothing").exists()
    assert not isinstance(place.lstat(), FileNotFoundError)


def test_the_content_of_a_lock_file_stays(tmp_path):
    (tmp_path / ".lock").write_text("precious")
    assert not busy(tmp_path)
    os.close(open_lock(tmp_path / ".lock"))
    assert (tmp_path / ".lock").read_text() == "precious"


def test_a_directory_lock_is_exclusive_and_leaves_no_file(tmp_path):
    with lock_directory(tmp_path):
        with pytest.raises(FolderBusyError, match="in use"), lock_directory(tmp_path):
            raise AssertionError("two hold it")
        with folder_lock(tmp_path / "inside"):  # another lock
            pass
    with lock_directory(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_a_file_system_without_locks_of_folders_holds_nothing(tmp_path, monkeypatch):
    def none(descriptor, operation):
        raise OSError(errno.ENOTSUP, "none here")

    monkeypatch.setattr("pippin.system.lock.fcntl.flock", none)
    with lock_directory(tmp_path):
        pass
