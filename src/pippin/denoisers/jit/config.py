# SPDX-License-Identifier: Apache-2.0
"""Configuration of JiT, and its sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pippin.config import ConfigError
from pippin.denoisers.config import SIZES, Dimensions, TimeName, TransformerConfig
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime, VelocityWeight
from pippin.nn.config import BlockLayers
from pippin.settings.bounds import at_least

X_PREDICTION = DiffusionConfig(
    schedule="flow",
    prediction="x0",
    time_density=LogitNormalTime(mean=0.8, std=0.8),  # data's share: sigmoid(-0.8 + 0.8 n)
    loss_weight=VelocityWeight(),
)
"""Objective of JiT: the network predicts x0, and the loss is the error of the velocity."""
JiTSize = Literal["tiny", "S", "B", "L", "XL", "H"]


@dataclass(frozen=True, kw_only=True)
class JiTConfig(TransformerConfig):
    """JiT, a transformer over large patches of pixels or latents (Li & He 2025)."""

    kind: Literal["jit"] = "jit"
    patch_size: int = 16
    qk_norm: bool = True
    bottleneck_width: int = 128
    """Width between the two linear layers that embed a patch."""
    context_start: int | None = None
    """Index of the block from which on condition tokens are in front of the image's tokens, in
    self-attention; None: the denoiser reads no tokens."""
    context_repeats: int | None = None
    """None: condition tokens are read as they are. n: a single condition token is repeated n
    times, each with a learned position (JiT's class tokens)."""

    def __post_init__(self) -> None:
        """Refuse heads without whole pairs of features, and context that no block reads."""
        super().__post_init__()
        at_least(self, "denoiser", 1, "bottleneck_width", "context_repeats")
        at_least(self, "denoiser", 0, "context_start")
        self.check_rotary()
        if self.context_start is not None and self.context_start >= self.depth:
            raise ConfigError(
                "denoiser.context_start must be below denoiser.depth, or None to read no tokens; "
                f"got {self.context_start} and {self.depth}"
            )
        if self.context_repeats is not None and self.context_start is None:
            raise ConfigError(
                f"denoiser.context_repeats {self.context_repeats} has no effect without "
                "denoiser.context_start: set it to the index of a block, or leave both out"
            )

    @property
    def time_input(self) -> TimeName:
        """Times from 0 = noise to 1 = data."""
        return "data"

    @property
    def layers(self) -> BlockLayers:
        """Layers of each block."""
        return BlockLayers(norm="rms", mlp="swiglu", qk_norm=self.qk_norm)

    def with_tokens(self) -> "JiTConfig":
        """Condition tokens as they are, from the first third of the blocks on."""
        start = self.depth // 3 if self.context_start is None else self.context_start
        return replace(self, context_start=start, context_repeats=None)

    def check_tokens(self, num_tokens: int) -> None:
        """Refuse to repeat more than one token."""
        if self.context_repeats is not None and num_tokens != 1:
            raise ConfigError(
                "denoiser.context_repeats repeats one condition token, and "
                f"conditioning.semantic.num_tokens is {num_tokens}: set that to 1, or "
                "denoiser.context_repeats to None"
            )

    def latent_channels(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Channels of a patch, which the first layer reads as one vector."""
        return shapes["denoiser.patches.linear_in.weight"][1] // self.patch_size**2


_HUGE = Dimensions(32, 1280, 16)
_CONTEXT_STARTS: dict[JiTSize, int] = {"tiny": 1, "S": 4, "B": 4, "L": 8, "XL": 9, "H": 10}
"""First block with condition tokens: a third of the depth, as published for B, L and H."""


def jit(size: JiTSize, *, context: bool, **settings: Any) -> JiTConfig:
    """JiT of a named size; B, L and H are published.

    Args:
        size: depth, width and heads.
        context: whether the blocks after the first third read condition tokens.
        settings: further settings of :class:`JiTConfig`.
    """
    start = _CONTEXT_STARTS[size] if context else None
    bottleneck = {"tiny": 32, "H": 256}.get(size, 128)
    settings = {"bottleneck_width": bottleneck, "context_start": start} | settings
    dimensions = _HUGE if size == "H" else SIZES[size]
    return JiTConfig(**dimensions._asdict(), **settings)
