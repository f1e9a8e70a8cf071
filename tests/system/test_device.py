# SPDX-License-Identifier: Apache-2.0
"""Devices by name, and exact fp32."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pippin.system.device import cpu_has_bf16_units, resolve_device, slow_bf16_note, to_device


def test_convolutions_in_fp32_are_not_rounded_to_tf32(monkeypatch):
    """They are by torch's default; every command resolves its device here."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    resolve_device("cpu")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_inductor_can_read_the_switch_in_a_new_process():
    """Torch raises an error if its older and newer switch disagree."""
    code = (
        "import torch; from pippin.system.device import resolve_device; resolve_device('cpu'); "
        "print(torch.backends.cudnn.allow_tf32)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


@pytest.mark.parametrize("device", ["cuda", torch.device("cuda", 1)])
def test_a_copy_to_a_gpu_is_asynchronous(device, monkeypatch):
    """From pinned memory, the only memory that can be copied asynchronously."""
    calls = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: calls.append("pinned") or x)
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *_, **how: calls.append(how) or x)
    to_device(torch.zeros(2), device)
    assert calls == ["pinned", {"non_blocking": True}]


def test_on_the_cpu_nothing_is_copied():
    numbers = torch.zeros(2)
    assert to_device(numbers, "cpu") is numbers


def test_a_missing_device_is_refused():
    with pytest.raises(ValueError, match=r"device 'cuda:77' cannot be used .*try auto or cpu"):
        resolve_device("cuda:77")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(),
    reason="needs Linux on an x86 CPU",
)
def test_bf16_units_are_those_that_the_system_lists():
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    listed = not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)
    assert cpu_has_bf16_units() == (listed and hasattr(torch.cpu, "get_capabilities"))


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"bf16": True}, False),  # Arm: not measured
        ({}, False),
    ],
)
def test_bf16_units_by_capability(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert cpu_has_bf16_units() is expected


@pytest.mark.parametrize(
    ("device", "capabilities", "expected"),
    [
        ("cpu", {"architecture": "x86_64", "avx2": True}, True),
        ("cpu", {"architecture": "x86_64", "avx512_bf16": True}, False),
        ("cpu", {"architecture": "arm"}, False),  # not measured
        ("cpu", {}, False),  # an older torch
        ("cuda:0", {"architecture": "x86_64"}, False),
    ],
)
def test_a_cpu_that_emulates_bf16_is_named(device, capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    note = slow_bf16_note(torch.device(device), "train.precision", "bf16")
    assert (note is not None) == expected
    if note is not None:
        assert note.startswith("train.precision bf16 is several times as slow as fp32")
        assert "(AVX512-BF16 or AMX); type --train.precision fp32" in note
    assert slow_bf16_note(torch.device(device), "train.precision", "fp32") is None


def test_an_older_torch_reports_no_bf16_units(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert cpu_has_bf16_units() is False
