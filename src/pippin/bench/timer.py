# SPDX-License-Identifier: Apache-2.0
"""Timer, peak memory and matmul throughput of a device, and the machine's properties."""

import contextlib
import platform
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch


def machine(device: torch.device) -> dict[str, str]:
    """Properties that must be equal for comparable throughputs."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    """Name and generation of the processor, most detailed on Linux."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor() or "unknown"
    fields: dict[str, str] = {}
    for line in information.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    parts = [fields.get(key, "") for key in ("model name", "cpu family", "model")]
    return " ".join(part for part in parts if part) or "unknown"


MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}
"""Side large enough to reach peak throughput, small enough to run between two windows."""


def synchronise(device: torch.device) -> None:
    """Wait for all queued work of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Timer:
    """Accumulates the seconds of parts by name: ``with timer(name): ...``; names may repeat."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the seconds of the body to ``name``; the device is synchronised before and after."""
        synchronise(self.device)
        start = time.perf_counter()
        yield
        synchronise(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def matmul_peak(device: torch.device, precision: str, side: int = 0) -> float:
    """FLOP/s of a square matrix product: the better of two runs.

    Args:
        device: where to run.
        precision: fp32 or bf16, for both factors.
        side: side of the matrices; 0 = the device's default.
    """
    n = side or MATMUL_SIDE.get(device.type, 2048)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    factors = [torch.randn(n, n, device=device).to(dtype) for _ in range(2)]
    best = 0.0
    for _ in range(2):
        synchronise(device)
        start = time.perf_counter()
        torch.mm(*factors)
        synchronise(device)
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak memory; without effect outside Linux and CUDA."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Peak bytes since the reset: allocated (CUDA), or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
