# SPDX-License-Identifier: Apache-2.0
"""What is measured, and how long."""

from dataclasses import dataclass
from typing import Literal

from pippin.config import Config, ConfigError
from pippin.denoisers.config import SizeName

Precision = Literal["fp32", "bf16"]
Kind = Literal["dit", "pixart", "mmdit", "unet"]
"""Denoisers that diffusers has a class for."""


@dataclass(frozen=True, kw_only=True)
class BenchConfig(Config):
    """Windows of training steps; every figure is the median over windows."""

    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    compile: bool = False
    """Measure with compiled blocks too, after eager."""
    data: Literal["recipe", "made-up"] = "recipe"
    """made-up: random latents of the recipe's shape, where no latent cache is at hand yet."""
    windows: int = 5
    steps: int = 3
    """Training steps in a window: so many undisturbed, then as many with their parts timed."""
    warmup: int = 2
    """Steps before the first window of each mode, compilation among them."""
    matmul_side: int = 0
    """Of the matrices whose product is the peak; 0 = large for the device."""
    threads: int = 0
    """CPU threads; 0 = as many as torch takes by itself."""

    def __post_init__(self) -> None:
        """Refuse measurements of nothing."""
        _check(self, "windows", "steps", "warmup")


@dataclass(frozen=True, kw_only=True)
class AgainstConfig(Config):
    """Rounds in which two models take turns; every figure is the median over rounds."""

    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    compile: bool = False
    """Measure with compiled blocks too, after eager."""
    denoiser: Kind = "dit"
    """Conditions are those of the published model: class, or 120, 154 and 77 tokens of text."""
    size: SizeName = "S"
    side: int = 32
    """Of the latent: 32 and patches of 2 make 256 tokens."""
    batch_size: int = 16
    rounds: int = 7
    matmul_side: int = 0
    """Of the matrices whose product is the peak; 0 = large for the device."""
    threads: int = 0
    """CPU threads; 0 = as many as torch takes by itself."""
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse measurements of nothing."""
        _check(self, "side", "batch_size", "rounds")


def _check(config: BenchConfig | AgainstConfig, *counts: str) -> None:
    precisions = config.precisions
    if not precisions or len(set(precisions)) != len(precisions):
        raise ConfigError(f"precisions: fp32, bf16 or both, each once; got {precisions}")
    for name in counts:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1; got {getattr(config, name)}")
    if config.threads < 0:
        raise ConfigError(f"threads must be 0 or more; got {config.threads}")
