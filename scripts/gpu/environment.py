# SPDX-License-Identifier: Apache-2.0
"""Device, driver, libraries and precision settings."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from gpu.section import Context, Task

from pippin.bench.timer import machine
from pippin.planning.devices import device_named
from pippin.system.installation import environment


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One property of the installation."""

    what: str
    value: str


def tasks(context: Context) -> Iterator[Task]:
    """Properties that the numbers depend on."""
    device = context.settings.device
    yield Task(name="installation", run=lambda: _entries(environment() | machine(device)))
    yield Task(name="precision", run=lambda: _entries(_precision()))
    if device.type == "cuda":
        yield Task(name="GPU", run=lambda: _entries(_gpu(device)))


def _entries(values: dict[str, str]) -> Iterator[Entry]:
    return (Entry(what=name, value=value) for name, value in values.items())


def _precision() -> dict[str, str]:
    """Settings by which products of fp32 numbers are rounded; TF32 keeps 10 bits."""
    return {
        "TF32 in matrix products": str(torch.backends.cuda.matmul.allow_tf32),
        "TF32 in convolutions": str(torch.backends.cudnn.allow_tf32),
        "fp32 matrix products": torch.get_float32_matmul_precision(),
    }


def _gpu(device: torch.device) -> dict[str, str]:
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    return {
        "CUDA": str(torch.version.cuda),
        "cuDNN": str(torch.backends.cudnn.version()),
        "driver": _driver(),
        "compute capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": str(properties.multi_processor_count),
        "memory": f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB free",
        "data sheet": device_named(properties.name) or "unknown to pippin plan",
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"
