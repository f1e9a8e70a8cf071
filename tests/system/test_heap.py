# SPDX-License-Identifier: Apache-2.0
"""Freed memory of a step stays in the process, and returns to the system afterwards."""

import resource

import pytest
import torch

from pippin.system.heap import VARIABLES, retained_heap

CPU = torch.device("cpu")
BLOCK = 12 * 2**20
"""Bytes of each tensor; glibc returns several of them, freed together, to the system."""


def page_faults(steps: int) -> int:
    """Page faults of steps that allocate and free 12 blocks each."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        blocks = [torch.ones(BLOCK // 4) for _ in range(12)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_later_steps_find_their_memory():
    with retained_heap(CPU) as applies:
        if not applies:
            pytest.skip("the C library is not glibc")
        page_faults(2)
        kept = page_faults(3)
    returned = page_faults(3)
    assert 4 * kept < returned


def test_a_user_who_chose_an_allocator_keeps_it(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    with retained_heap(CPU) as applies:
        assert not applies


def test_a_gpu_needs_no_heap():
    with retained_heap(torch.device("cuda")) as applies:
        assert not applies
