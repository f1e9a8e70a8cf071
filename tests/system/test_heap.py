# SPDX-License-Identifier: Apache-2.0
"""Freed memory of a step stays in the process, and returns to the system afterwards."""

import subprocess
import sys

import pytest
import torch

from pippin.system.heap import VARIABLES, retained_heap

CPU = torch.device("cpu")
PROGRAM = """
import resource
import torch
from pippin.system.heap import retained_heap

def page_faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        blocks = [torch.ones(3 * 2**20) for _ in range(12)]  # of 12 MiB
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with retained_heap(torch.device("cpu")) as applies:
    page_faults(2)
    kept = page_faults(3)
print(int(applies), kept, page_faults(3))
"""
"""Steps that allocate and free 12 blocks, in a process whose heap no other test has divided."""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_later_steps_find_their_memory():
    program = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    applies, kept, returned = map(int, done.stdout.split())
    if not applies:
        pytest.skip("the C library is not glibc")
    assert 4 * kept < returned


def test_a_user_who_chose_an_allocator_keeps_it(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    with retained_heap(CPU) as applies:
        assert not applies


def test_a_gpu_needs_no_heap():
    with retained_heap(torch.device("cuda")) as applies:
        assert not applies
