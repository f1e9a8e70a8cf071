# SPDX-License-Identifier: Apache-2.0
"""Configuration of DiT, and its sizes."""

from dataclasses import dataclass
from typing import Any, Literal

from pippin.denoisers.config import SIZES, SizeName, TransformerConfig


@dataclass(frozen=True, kw_only=True)
class DiTConfig(TransformerConfig):
    """DiT with adaLN-zero (Peebles & Xie 2023)."""

    kind: Literal["dit"] = "dit"
    cross_attention: bool = False
    """Add cross-attention to condition tokens in every block (the paper's section 3.2 variant,
    with adaLN-zero kept for time and control)."""
    learn_variance: bool = False
    """Double the output channels: the second half is the variance's interpolation coefficient."""


def dit(size: SizeName, **settings: Any) -> DiTConfig:
    """DiT of a named size."""
    return DiTConfig(**SIZES[size]._asdict(), **settings)
