# SPDX-License-Identifier: Apache-2.0
"""Devices by name, and what fp32 means on them."""

import subprocess
import sys

import pytest
import torch

from pippin.system.device import resolve_device, to_device


def test_convolutions_in_fp32_are_not_rounded_to_tf32(monkeypatch):
    """By torch's default they are; every command asks for its device here."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    resolve_device("cpu")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_inductor_can_ask_for_the_switch_in_a_new_process():
    """Torch refuses to answer where its older and its newer switch disagree."""
    asked = (
        "import torch; from pippin.system.device import resolve_device; resolve_device('cpu'); "
        "print(torch.backends.cudnn.allow_tf32)"
    )
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert found.stdout == "False\n", found.stderr


@pytest.mark.parametrize("device", ["cuda", torch.device("cuda", 1)])
def test_a_copy_to_a_card_does_not_wait(device, monkeypatch):
    """From pinned memory, which alone can be copied while the card computes."""
    asked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: asked.append("pinned") or x)
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *_, **how: asked.append(how) or x)
    to_device(torch.zeros(2), device)
    assert asked == ["pinned", {"non_blocking": True}]


def test_on_the_cpu_nothing_is_copied():
    numbers = torch.zeros(2)
    assert to_device(numbers, "cpu") is numbers


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ValueError, match=r"device 'cuda:77' cannot be used .*try auto or cpu"):
        resolve_device("cuda:77")
