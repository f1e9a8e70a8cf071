# SPDX-License-Identifier: Apache-2.0
"""Accelerators by name: peak FLOP/s and memory of the vendor's data sheet. Imports no torch."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from pippin.config import Config, ConfigError


class Device(NamedTuple):
    """One accelerator."""

    bf16: float
    """Peak FLOP/s of dense bf16 products with fp32 accumulation."""
    fp32: float
    """Peak FLOP/s in fp32 without tensor cores, as torch multiplies unless TF32 is allowed."""
    memory: int
    """Bytes, with the data sheet's GB as 10^9; GPUs report a little more."""
    source: str


DEVICES: dict[str, Device] = {
    "a100-40": Device(312e12, 19.5e12, 40 * 10**9, "NVIDIA A100 data sheet, SXM"),
    "a100-80": Device(312e12, 19.5e12, 80 * 10**9, "NVIDIA A100 data sheet, SXM"),
    # These data sheets list bf16 with sparsity: dense is half of 1979.
    "h100": Device(989.5e12, 67e12, 80 * 10**9, "NVIDIA H100 data sheet, SXM"),
    "h200": Device(989.5e12, 67e12, 141 * 10**9, "NVIDIA H200 data sheet, SXM"),
    "l40s": Device(362.05e12, 91.6e12, 48 * 10**9, "NVIDIA L40S data sheet"),
    # A GeForce has half the speed with fp32 accumulation.
    "4090": Device(165.2e12, 82.6e12, 24 * 10**9, "NVIDIA Ada architecture paper, appendix A"),
}

_REPORTED: dict[str, str] = {
    "a100-40": r"A100-(SXM4|PCIE)-40GB",
    "a100-80": r"A100(-SXM4-80GB| 80GB PCIe)",
    "h100": r"H100 80GB HBM3",
    "h200": r"H200",
    "l40s": r"L40S",
    "4090": r"GeForce RTX 4090",
}
"""Device -> pattern of the name that CUDA reports. Variants of other speed do not match."""


def device_named(reported: str) -> str | None:
    """Device of :data:`DEVICES` of a name that CUDA reports, such as ``NVIDIA H100 80GB HBM3``;
    None = unknown."""
    bare = reported.removeprefix("NVIDIA ").strip()
    return next((name for name, text in _REPORTED.items() if re.fullmatch(text, bare)), None)


@dataclass(frozen=True, kw_only=True)
class Cluster(Config):
    """Devices to train a recipe on, and their assumed utilisation."""

    devices: int = 8
    """Number of devices; each takes an equal part of the batch."""
    device: str = "h100"
    """One of: a100-40, a100-80, h100, h200, l40s, 4090; in any case."""
    memory_gb: float | None = None
    """Memory of each device in GB (10^9 bytes); None = as in the data sheet."""
    utilisation: float = 0.4
    """Assumed share of the peak, waiting for data and other devices included. Measure your own:
    pippin bench."""
    headroom: float = 0.1
    """Share of the memory left free: the context, work space of kernels, fragments."""

    def __post_init__(self) -> None:
        """Read device names in any case; refuse unknown ones and shares outside (0, 1]."""
        object.__setattr__(self, "device", self.device.lower())
        if self.device not in DEVICES:
            raise ConfigError(f"no device {self.device!r}; there are: {', '.join(DEVICES)}")
        if self.devices < 1:
            raise ConfigError(f"devices must be 1 or more; got {self.devices}")
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise ConfigError(f"memory_gb must be more than 0; got {self.memory_gb}")
        if not 0 < self.utilisation <= 1:
            raise ConfigError(
                f"utilisation must be more than 0 and at most 1; got {self.utilisation}"
            )
        if not 0 <= self.headroom < 1:
            raise ConfigError(f"headroom must be 0 or more and below 1; got {self.headroom}")

    @property
    def memory(self) -> int:
        """Bytes of each device."""
        known = DEVICES[self.device].memory
        return known if self.memory_gb is None else int(self.memory_gb * 1e9)

    @property
    def usable(self) -> int:
        """Bytes of each device that a run may use."""
        return int(self.memory * (1 - self.headroom))

    def speed(self, precision: str) -> float:
        """FLOP/s of each device at the assumed utilisation, in fp32 or bf16."""
        device = DEVICES[self.device]
        return self.utilisation * (device.bf16 if precision == "bf16" else device.fp32)
