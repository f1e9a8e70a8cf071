# SPDX-License-Identifier: Apache-2.0
"""Configuration of DiT, and its sizes."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pippin.config import ConfigError
from pippin.denoisers.config import SIZES, SizeName, TransformerConfig
from pippin.nn.config import BlockLayers, MLPName, NormName
from pippin.settings.marks import PROTOCOL_IF_CHANGED


@dataclass(frozen=True, kw_only=True)
class DiTConfig(TransformerConfig):
    """DiT with adaLN-zero (Peebles & Xie 2023)."""

    kind: Literal["dit"] = "dit"
    cross_attention: bool = False
    """Add cross-attention to condition tokens in every block (the paper's section 3.2 variant,
    with adaLN-zero kept for time and control)."""
    learn_variance: bool = False
    """Double the output channels: the second half is the variance's interpolation coefficient."""
    norm: NormName = field(default="layer", metadata=PROTOCOL_IF_CHANGED)
    """layer: layer norms without gain; rms: RMS norms with a learned gain (LightningDiT)."""
    mlp: MLPName = field(default="gelu", metadata=PROTOCOL_IF_CHANGED)
    """gelu: two linear layers; swiglu: gated, with 2/3 of the hidden width and so equally many
    parameters (Shazeer 2020)."""
    rotary: bool = field(default=False, metadata=PROTOCOL_IF_CHANGED)
    """Rotary positions in self-attention (Su et al. 2021), half of each head by row and half by
    column, in addition to the sine-cosine positions of the input."""
    qk_norm_kind: NormName = field(default="rms", metadata=PROTOCOL_IF_CHANGED)
    """With qk_norm. rms: with a gain; layer: layer norm with gain and bias."""
    modulation_shift: bool = field(default=True, metadata=PROTOCOL_IF_CHANGED)
    """False: blocks are modulated by scales and gates only; the last layer keeps its shift."""
    time_input: Literal["noise", "data"] = field(default="noise", metadata=PROTOCOL_IF_CHANGED)
    """Time that the network reads. noise: t, from 0 = data to 1000 = noise; data: 1 - t / 1000,
    from 0 = noise to 1 = data (SiT and its descendants)."""

    def __post_init__(self) -> None:
        """Refuse heads without whole pairs for rows and columns, and settings without effect."""
        super().__post_init__()
        if self.rotary:
            self.check_rotary()
        if self.qk_norm_kind != "rms" and not self.qk_norm:
            raise ConfigError(
                f"denoiser.qk_norm_kind {self.qk_norm_kind} has no effect without "
                "denoiser.qk_norm True: set it, or leave qk_norm_kind out"
            )

    def with_tokens(self) -> "DiTConfig":
        """The denoiser with cross-attention."""
        return replace(self, cross_attention=True)

    @property
    def variant(self) -> str:
        """dit, sit or lightningdit, by times and layers."""
        if self.time_input == "noise":
            return "dit"
        return "lightningdit" if self.rotary or self.layers != BlockLayers() else "sit"

    @property
    def layers(self) -> BlockLayers:
        """Layers of each block."""
        return BlockLayers(
            norm=self.norm,
            mlp=self.mlp,
            qk_norm=self.qk_norm_kind if self.qk_norm else False,
            shift=self.modulation_shift,
        )


def dit(size: SizeName, **settings: Any) -> DiTConfig:
    """DiT of a named size."""
    return DiTConfig(**SIZES[size]._asdict(), **settings)
