# SPDX-License-Identifier: Apache-2.0
"""CPU memory is the machine's, or the smallest limit of the control groups above the process."""

import os

import pytest

from pippin.system import main_memory as module
from pippin.system.main_memory import main_memory

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Folder of control groups; the process is in /job/step of it."""
    (tmp_path / "groups/job/step").mkdir(parents=True)
    (tmp_path / "own").write_text("12:cpu:/elsewhere\n0::/job/step\n")
    monkeypatch.setattr(module, "CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(module, "OWN_GROUPS", tmp_path / "own")
    return tmp_path / "groups"


def test_no_limit(groups):
    (groups / "job/step/memory.max").write_text("max\n")
    assert main_memory() == MACHINE


@pytest.mark.parametrize("group", ["job/step", "job", "."])
def test_the_smallest_limit_counts(group, groups):
    (groups / "job/memory.max").write_text(f"{2 * MACHINE}\n")
    (groups / group / "memory.max").write_text("4096\n")
    assert main_memory() == 4096


def test_a_system_without_such_groups(groups, monkeypatch):
    monkeypatch.setattr(module, "OWN_GROUPS", groups / "absent")
    assert main_memory() == MACHINE
