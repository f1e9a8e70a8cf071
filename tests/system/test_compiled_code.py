# SPDX-License-Identifier: Apache-2.0
"""Folder of compiled code: below the caches, one for each CPU, unless something chose another."""

import os

import pytest
import torch
from torch._inductor.runtime.cache_dir_utils import cache_dir

from pippin.system.compiled_code import PREFIX, VARIABLE, keep_compiled_code


@pytest.fixture(autouse=True)
def no_folder(monkeypatch):
    """Environment without the variable, and with the same one afterwards."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)


def test_inductor_keeps_its_code_below_the_caches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = keep_compiled_code(tmp_path / "caches")
    assert folder is not None and folder.parent == tmp_path / "caches"
    assert folder.is_dir() and folder.name.startswith(PREFIX)
    assert cache_dir() == str(folder)
    assert keep_compiled_code(tmp_path / "caches") == folder  # torch has set the variable
    os.environ.pop(VARIABLE)
    monkeypatch.chdir("/")
    assert keep_compiled_code((tmp_path / "caches").relative_to("/")) == folder


def test_a_folder_of_the_environment_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    assert keep_compiled_code(tmp_path / "caches") is None
    assert os.environ[VARIABLE] == str(tmp_path / "mine")
    assert not (tmp_path / "caches").exists()


def test_a_folder_that_cannot_be_written_leaves_the_default(tmp_path):
    (tmp_path / "caches").write_text("a file")
    assert keep_compiled_code(tmp_path / "caches") is None
    assert VARIABLE not in os.environ


def test_each_kind_of_cpu_has_its_own_folder(tmp_path, monkeypatch):
    """A computer may share its folder with others, and machine code for one stops another."""
    folders = set()
    for capabilities in ({"avx2": True, "avx512_f": False}, {"avx2": True, "avx512_f": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c, raising=False)
        folders.add(keep_compiled_code(tmp_path))
        os.environ.pop(VARIABLE)
    assert len(folders) == 2
