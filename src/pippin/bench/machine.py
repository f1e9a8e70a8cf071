# SPDX-License-Identifier: Apache-2.0
"""Machine properties that throughput depends on: device, processor, threads."""

import platform
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
