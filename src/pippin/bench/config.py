# SPDX-License-Identifier: Apache-2.0
"""Configuration of throughput measurements."""

from dataclasses import dataclass
from typing import Literal

from pippin.config import Config, ConfigError
from pippin.denoisers.config import SizeName

Precision = Literal["fp32", "bf16"]
Kind = Literal["dit", "pixart", "mmdit", "unet"]
"""Denoisers with a class in diffusers."""


@dataclass(frozen=True, kw_only=True)
class BenchConfig(Config):
    """Windows of training steps; every figure is the median over windows."""

    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    compile: bool = False
    """Also measure compiled blocks, after eager ones."""
    data: Literal["recipe", "made-up"] = "recipe"
    """made-up: synthetic data, random latents of the recipe's shape; needs no latent cache."""
    windows: int = 5
    steps: int = 3
    """Training steps per window without timers; as many follow with their parts timed."""
    warmup: int = 2
    """Steps before the first window of each mode, including compilation."""
    matmul_side: int = 0
    """Side of the matrices of the peak measurement; 0 = the device's default."""
    threads: int = 0
    """CPU threads; 0 = torch's default."""

    def __post_init__(self) -> None:
        """Refuse empty measurements."""
        _check(self, "windows", "steps", "warmup")


@dataclass(frozen=True, kw_only=True)
class AgainstConfig(Config):
    """Rounds in which two models alternate; every figure is the median over rounds."""

    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    compile: bool = False
    """Also measure compiled blocks, after eager ones."""
    denoiser: Kind = "dit"
    """Denoiser with its published conditions: class, or 120, 154 and 77 text tokens."""
    size: SizeName = "S"
    side: int = 32
    """Side of the latent: 32 with patch size 2 gives 256 tokens."""
    batch_size: int = 16
    rounds: int = 7
    matmul_side: int = 0
    """Side of the matrices of the peak measurement; 0 = the device's default."""
    threads: int = 0
    """CPU threads; 0 = torch's default."""
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse empty measurements."""
        _check(self, "side", "batch_size", "rounds")


def _check(config: BenchConfig | AgainstConfig, *counts: str) -> None:
    precisions = config.precisions
    if not precisions or len(set(precisions)) != len(precisions):
        raise ConfigError(f"precisions must be fp32, bf16 or both, each once; got {precisions}")
    for name in counts:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1; got {getattr(config, name)}")
    if config.threads < 0:
        raise ConfigError(f"threads must be 0 or more; got {config.threads}")
