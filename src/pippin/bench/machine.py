# SPDX-License-Identifier: Apache-2.0
"""What a speed depends on beside the program: device, processor, threads."""

import platform
from pathlib import Path

import torch


def machine(device: torch.device) -> dict[str, str]:
    """Names that must be equal for two speeds to be comparable."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    """The processor's name and generation; Linux tells most."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor() or "unknown"
    found: dict[str, str] = {}
    for line in information.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    parts = [found.get(key, "") for key in ("model name", "cpu family", "model")]
    return " ".join(part for part in parts if part) or "unknown"
