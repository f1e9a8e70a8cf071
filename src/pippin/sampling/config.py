# SPDX-License-Identifier: Apache-2.0
"""Configuration of guidance and sampling."""

from dataclasses import dataclass, field
from typing import Literal

from pippin.config import NOT_PROTOCOL, Config

SolverName = Literal["ddim", "dpm++", "heun", "euler"]


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig(Config):
    """lambda [beta e(c, s) + (1 - beta) e(0, s)] + (1 - lambda) e(reference)."""

    semantic_scale: float = 1.0
    """lambda; 1 = off."""
    control_scale: float = 1.0
    """beta; 1 = off."""
    reference: Literal["null", "control"] = "null"
    """null: e(0, 0), the paper's; control: e(c, 0)."""
    log_snr_interval: tuple[float, float] | None = None
    """Guide only where low <= log-SNR <= high; outside, both scales are 1."""
    cfg_channels: int | None = None
    """None guides all channels; 3 reproduces the published DiT's samples."""


@dataclass(frozen=True, kw_only=True)
class ControlRequest(Config):
    """Which control values a sample asks for, in pixels of an imagined source image."""

    original_size: tuple[int, int] = (256, 256)
    crop_corner: tuple[int, int] = (0, 0)
    crop_size: tuple[int, int] | None = None
    """None: the whole image, that is, original_size."""
    flip: bool = False


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How images are drawn from a model."""

    solver: SolverName = "ddim"
    steps: int = 50
    """Solver steps; network evaluations are counted and reported beside."""
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    control: ControlRequest = field(default_factory=ControlRequest)
    weights: Literal["ema", "raw"] = "ema"
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: int = field(default=64, metadata=NOT_PROTOCOL)
    """Images of one seed depend on it by rounding only."""
