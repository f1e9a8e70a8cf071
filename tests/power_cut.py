# SPDX-License-Identifier: Apache-2.0
"""Model of a power cut: the possible states of a disk at each moment of an operation.

Only a flush certainly reaches the disk: of a file (fsync) its content, of a folder its names, of a
file system (syncfs) all of it. Whether unflushed data has reached the disk depends on the file
system. Four cases are modelled, each for all files together:

- names at once, content by flushes only: an unflushed file is empty, or as it was when it was last
  flushed (ext4 after a delayed allocation);
- names at once, half of the content that was not flushed: a torn file;
- names by flushes only, content at once: an unflushed name is absent, a removed one is back;
- both by flushes only.

The moments are those before and after every flush, rename, removal and new folder.
"""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from pippin.system import files as fsync_module

MODELS = [(True, "old"), (True, "half"), (False, "new"), (False, "old")]
"""(True if names reach the disk at once, state of unflushed content)."""


class Disk:
    """Flushed data of a folder, and all states in which a power cut may leave it."""

    def __init__(self, root):
        self.root, self.states = root, []
        self._uid, self._count = {}, 0
        self._flushed, self._names, self._last = {}, {}, {}
        self.flush_all()
        self.look()

    def look(self):
        """Record the states that a power cut may leave now."""
        for names_at_once, content in MODELS:
            tree = {}
            self._walk(self._id(self.root), self.root, "", tree, names_at_once, content)
            if tree not in self.states:
                self.states.append(tree)

    def flush(self, path):
        """Flush a file's content, or the names in a folder."""
        if path.is_dir():
            self._names[self._id(path)] = {entry.name: self._id(entry) for entry in path.iterdir()}
        else:
            self._flushed[self._id(path)] = path.read_bytes()

    def flush_all(self):
        """Flush the whole file system."""
        for path in [self.root, *self.root.rglob("*")]:
            self.flush(path)

    def forget(self, path):
        """Forget a removed name; another file may get its inode."""
        uid = self._id(path)
        if path.is_file():
            self._last[uid] = path.read_bytes()
        self._uid.pop(os.lstat(path).st_ino)

    def write(self, number, folder):
        """Write the files of a state."""
        folder.mkdir()
        for name, content in self.states[number].items():
            if content is None:
                (folder / name).mkdir()
            else:
                (folder / name).write_bytes(content)

    def _id(self, path):
        inode = os.lstat(path).st_ino
        if inode not in self._uid:
            self._count += 1
            self._uid[inode] = (self._count, path.is_dir())
        return self._uid[inode]

    def _walk(self, uid, folder, prefix, tree, names_at_once, content):
        """Add the tree below ``folder``, the current path; None for a removed folder."""
        live = {} if folder is None else {entry.name: entry for entry in folder.iterdir()}
        ids = {name: self._id(path) for name, path in live.items()}
        places = {ids[name]: path for name, path in live.items()}
        for name, entry in sorted((ids if names_at_once else self._names.get(uid, {})).items()):
            path = places.get(entry) or self._found(entry)
            if entry[1]:
                tree[prefix + name] = None
                self._walk(entry, path, f"{prefix}{name}/", tree, names_at_once, content)
            else:
                tree[prefix + name] = self._content(entry, path, content)

    def _content(self, uid, path, content):
        new = self._last.get(uid, b"") if path is None else path.read_bytes()
        old = self._flushed.get(uid, b"")
        if content == "new" or new == old:
            return new
        if content == "old" or old.startswith(new):  # a cut takes effect as a whole
            return old
        start = len(old) if new.startswith(old) else 0
        return new[: start + (len(new) - start) // 2]

    def _found(self, uid):
        """Current path of a moved file."""
        return next((entry for entry in self.root.rglob("*") if self._id(entry) == uid), None)


@contextmanager
def recorded(root):
    """Run an operation below a folder, and record the states that a power cut may leave."""
    disk = Disk(root)

    def of(descriptor):
        return Path(os.readlink(f"/proc/self/fd/{descriptor}"))

    def inside(path):
        return path == root or root in path.parents

    def around(real, note):
        def call(*arguments, **options):
            disk.look()
            note(*arguments, **options)
            result = real(*arguments, **options)
            disk.look()
            return result

        return call

    def fsync(descriptor):
        if inside(of(descriptor)):
            disk.look()
            disk.flush(of(descriptor))
            disk.look()

    def sync_file_system(folder):
        disk.look()
        disk.flush_all()
        disk.look()
        return True

    def goes(path, dir_fd=None, **_):
        path = Path(path) if dir_fd is None else of(dir_fd) / path
        if path.exists() and inside(path.absolute()):
            disk.forget(path)

    def replaced(_, target, **__):
        if Path(target).is_file():
            disk.forget(Path(target))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(fsync_module, "_sync_file_system", sync_file_system)
        for name, note in {
            "unlink": goes,
            "rmdir": goes,
            "replace": replaced,
            "rename": replaced,
            "mkdir": lambda *_, **__: None,
        }.items():
            patch.setattr(os, name, around(getattr(os, name), note))
        yield disk
    disk.look()


def each_state(disk, folder):
    """Yield every state as files of a new folder."""
    folder.mkdir(exist_ok=True)
    for number in range(len(disk.states)):
        state_folder = folder / str(number)
        disk.write(number, state_folder)
        yield state_folder


def final_states(disk, folder):
    """Yield the states in which a power cut may leave the finished operation."""
    disk.states.clear()
    disk.look()
    yield from each_state(disk, folder)
