# SPDX-License-Identifier: Apache-2.0
"""fsync of files and folders; a file system that cannot sync folders is no error."""

import errno
import os
import stat

import pytest

from pippin.system import files as fsync
from pippin.system.files import make_folder, sync, sync_tree, write_text


@pytest.fixture
def synced(monkeypatch):
    """Names of the files that were synced one by one."""
    names, real = [], os.fsync

    def fsync(handle):
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


@pytest.fixture
def folders_fail(monkeypatch):
    """Make every fsync of a folder fail."""

    def fail(number):
        real = os.fsync

        def fsync(handle):
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(number, os.strerror(number))
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)

    return fail


@pytest.mark.parametrize("name", ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "EBADF", "ENOSYS", "EACCES"])
def test_a_folder_that_cannot_be_synced_is_skipped(name, folders_fail, tmp_path):
    folders_fail(getattr(errno, name))
    write_text(tmp_path / "x.json", "{}")
    assert (tmp_path / "x.json").read_text() == "{}"


def test_a_folder_on_a_bad_disk_is_an_error(folders_fail, tmp_path):
    folders_fail(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        write_text(tmp_path / "x.json", "{}")


def test_a_file_that_cannot_be_synced_is_an_error(monkeypatch, tmp_path):
    def refuse(handle):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Invalid argument"):
        write_text(tmp_path / "x.json", "{}")


def test_new_folders_have_their_names_on_the_disk(synced, tmp_path):
    (tmp_path / "a").mkdir()
    make_folder(tmp_path / "a" / "b" / "c")
    assert sorted(synced) == ["a", "b"]
    make_folder(tmp_path / "a" / "b" / "c")
    assert len(synced) == 2


def test_a_tree_is_synced_at_once_or_file_by_file(synced, monkeypatch, tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("1", "inner/2"):
        (tmp_path / name).write_text(name)
    sync_tree(tmp_path)
    one_by_one = ["1", "2", "inner", tmp_path.name]
    assert synced in ([], one_by_one)  # if the system has no syncfs
    synced.clear()
    monkeypatch.setattr(fsync, "_sync_file_system", lambda folder: False)
    sync_tree(tmp_path)
    assert sorted(synced) == sorted(one_by_one)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "none")
